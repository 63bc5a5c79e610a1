"""An engine in memory: images are really read, containers are Python functions in threads.

Rules: it means what the other engines mean, with the same errors, and passes the same tests. A
command's first word names a function in `programs`; a health check's does too. Ports are real
sockets on this machine, so that readiness and conflicts are real. Nothing outlives the process.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import signal as signals
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Literal

from dockyard.engine import refusals
from dockyard.engine.api import (
    ContainerState,
    EngineInfo,
    LocalImage,
    LogChunk,
    Port,
)
from dockyard.engine.spec import GRACE, MANAGED
from dockyard.errors import EngineError
from dockyard.oci.chain import shared_depth
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockyard.engine.spec import ContainerSpec

_SMALL = 4 << 20  # Bytes; larger members of an archive are layers, not JSON.


class _Killed(BaseException):
    """Ends a program that didn't handle its signal; its argument is the signal's number."""


@dataclass
class _Container:
    id: str
    name: str
    spec: ContainerSpec
    image: LocalImage
    status: Literal["created", "running", "exited"] = "created"
    exit_code: int | None = None
    health: Literal["none", "starting", "healthy", "unhealthy"] = "none"
    started: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    output: list[LogChunk] = field(default_factory=list)
    ports: tuple[Port, ...] = ()
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)


class Process:
    """What a program sees of its container; files are shared with the health check."""

    def __init__(self, container: _Container, changed: threading.Condition) -> None:
        self._container = container
        self._changed = changed
        self._ignored: frozenset[int] = frozenset()
        self.files = container.files
        config = container.image.config
        listed = dict(item.partition("=")[::2] for item in config.get("Env") or ())
        self.environment: Mapping[str, str] = {**listed, **container.spec.environment}
        self.command = command_of(container.spec, container.image)

    def write(self, text: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
        """Write to one of the streams."""
        with self._changed:
            if self._container.status == "running":
                self._container.output.append(LogChunk(stream, text.encode()))
                self._changed.notify_all()

    def ignore(self, *names: str) -> None:
        """Ignore these signals ("SIGTERM") from now on."""
        self._ignored |= {signals.Signals[name] for name in names}

    def listen(self, port: int) -> socket.socket:
        """The socket of a published port, now listening."""
        listener = self._container.sockets[port]
        listener.listen()
        return listener

    def wait_signal(self, seconds: float | None = None) -> str | None:
        """Sleep until a signal comes that isn't ignored; its name, None after `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while True:
                if self._container.status != "running":
                    raise _Killed(signals.SIGKILL)
                while self._container.pending:
                    number = self._container.pending.pop(0)
                    if number not in self._ignored:
                        return signals.Signals(number).name
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)

    def sleep(self, seconds: float | None = None) -> None:
        """Sleep; a signal that isn't ignored ends the program."""
        if (name := self.wait_signal(seconds)) is not None:
            raise _Killed(signals.Signals[name])


Program = Callable[[Process], int]


class MemoryEngine:
    """An engine whose containers run `programs`; safe for several threads."""

    def __init__(
        self,
        programs: Mapping[str, Program] | None = None,
        *,
        architecture: str = "amd64",
        partial_loads: bool = True,
    ) -> None:
        self._programs = dict(programs or {})
        self._info = EngineInfo(
            kind="memory", version="1", architecture=architecture, partial_loads=partial_loads
        )
        self._images: dict[str, LocalImage] = {}
        self._names: dict[str, str] = {}
        self._containers: dict[str, _Container] = {}
        self._changed = threading.Condition(threading.RLock())

    @property
    def info(self) -> EngineInfo:
        """Which engine it is."""
        return self._info

    # Images

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a docker-archive tar, streamed; every layer's diff ID is checked."""
        file = _Reader(chunks)
        try:
            images = list(_read_archive(file, self.known_layers()))
            while file.read(1 << 20):
                pass  # What follows the archive's end is sent all the same.
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, KeyError, ValueError) as error:
            raise EngineError(
                f"the engine can't load the image: {error}", where=str(self.info)
            ) from error
        loaded: list[str] = []
        with self._changed:
            for image in images:
                self._images[image.id] = replace(image, references=())
                for name in image.references:
                    self._names[name] = image.id
                loaded.extend(image.references or (image.id,))
        return tuple(loaded)

    def image(self, reference: str) -> LocalImage | None:
        """The image with this name or id, or None."""
        with self._changed:
            number = self._names.get(_tagged(reference), reference)
            image = self._images.get(number) or self._images.get(f"sha256:{number}")
            if image is None:
                return None
            names = sorted(name for name, owner in self._names.items() if owner == image.id)
            return replace(image, references=tuple(names))

    def images(self) -> tuple[LocalImage, ...]:
        """All images, newest first."""
        with self._changed:
            found = [self.image(number) for number in reversed(self._images)]
        return tuple(image for image in found if image is not None)

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image; empty where archives must hold every layer."""
        if not self.info.partial_loads:
            return frozenset()
        with self._changed:
            return frozenset(image.layers for image in self._images.values() if image.layers)

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""
        with self._changed:
            self._names[_tagged(reference)] = self._need_image(image).id

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""
        with self._changed:
            image = self.image(reference)
            if image is None:
                return
            self._names.pop(_tagged(reference), None)
            left = [name for name, owner in self._names.items() if owner == image.id]
            if not left or (force and reference == image.id):
                self._images.pop(image.id)
                for name in left:
                    del self._names[name]

    # Containers

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""
        with self._changed:
            image = self._need_image(spec.image)
            number = secrets.token_hex(32)
            name = spec.name or f"memory-{number[:8]}"
            for other in self._containers.values():
                if other.name == name:
                    message = refusals.NAME_TAKEN.format(name, other.id)
                    raise refusals.explain(message, where=name)
            if image.architecture != self.info.architecture:
                reporter.warn(
                    f"The image is for linux/{image.architecture}, "
                    f"the engine for linux/{self.info.architecture}"
                )
            self._containers[number] = _Container(id=number, name=name, spec=spec, image=image)
            return number

    def start(self, container: str) -> None:
        """Start a created or ended container."""
        with self._changed:
            found = self._need(container)
            if found.status == "running":
                return
            if found.spec.gpus is not None:
                raise refusals.explain(refusals.GPUS_MISSING, where=container)
            _open_ports(found)
            checked = (found.image.config.get("Healthcheck") or {}).get("Test")
            found.health = "starting" if checked and checked != ["NONE"] else "none"
            found.status, found.exit_code, found.started = "running", None, time.monotonic()
            found.pending.clear()
        # A daemon: a program that ignores every signal must not keep Python from ending.
        threading.Thread(target=self._run, args=(found,), daemon=True, name=found.name).start()

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""
        with self._changed:
            found = self._need(container)
            if found.status != "running":
                return
            found.pending.append(signals.SIGTERM)
            self._changed.notify_all()
            limit = GRACE if grace is None else grace
            if not self._changed.wait_for(lambda: found.status != "running", limit):
                self._end(found, 128 + signals.SIGKILL)

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""
        with self._changed:
            found = self._need(container)
            if found.status != "running":
                raise refusals.explain(refusals.NOT_RUNNING.format(container), where=container)
            if signal == "SIGKILL":
                self._end(found, 128 + signals.SIGKILL)
            else:
                found.pending.append(signals.Signals[signal])
                self._changed.notify_all()

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""
        with self._changed:
            found = self._need(container)
            self._changed.wait_for(lambda: found.status != "running")
            return found.exit_code or 0

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns."""
        with self._changed:
            found = self._need(container)
            return self._follow(found, len(found.output))

    def logs(
        self, container: str, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[LogChunk]:
        """What it wrote, in order; with `follow` until it ends, with `tail` only the last lines."""
        with self._changed:
            found = self._need(container)
            written = list(found.output)
        if tail is not None:
            lines = [
                LogChunk(chunk.stream, line)
                for chunk in written
                for line in chunk.data.splitlines(keepends=True)
            ]
            yield from lines[len(lines) - min(tail, len(lines)) :]
        else:
            yield from written
        if follow and found.status == "running":
            yield from self._follow(found, len(written))

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""
        with self._changed:
            found = self._find(container)
            if found is None:
                return None
            return ContainerState(
                id=found.id,
                name=found.name,
                image=found.spec.image,
                status=found.status,
                exit_code=found.exit_code,
                health=found.health,
                ports=found.ports if found.status == "running" else (),
                labels={**found.image.labels, MANAGED: "true", **found.spec.labels},
                user=found.spec.user or str(found.image.config.get("User") or ""),
            )

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label ("name" or "name=value"; None: all), ended ones too."""
        with self._changed:
            states = [self.container(number) for number in reversed(self._containers)]
        wanted, _, value = (label or "").partition("=")
        return tuple(
            state
            for state in states
            if state is not None
            and (label is None or wanted in state.labels)
            and (not value or state.labels.get(wanted) == value)
        )

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""
        with self._changed:
            found = self._need(container)
            check = found.image.config.get("Healthcheck") or {}
            test = [word for word in check.get("Test") or () if word not in ("CMD", "CMD-SHELL")]
            if not test or test == ["NONE"]:
                return None
            if found.status != "running":
                raise refusals.explain(refusals.NOT_RUNNING.format(container), where=container)
            process = Process(found, self._changed)
        program = self._programs.get(test[0].split()[0])
        well = program is not None and program(process) == 0
        # The engine's own rounds of the check: it fails for good after all its retries.
        rounds = (check.get("Interval") or 30e9) * (check.get("Retries") or 3)
        patience = ((check.get("StartPeriod") or 0) + rounds) / 1e9
        with self._changed:
            if well:
                found.health = "healthy"
            elif time.monotonic() - found.started > patience:
                found.health = "unhealthy"
        return well

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it; absent ones are no error."""
        with self._changed:
            found = self._find(container)
            if found is None:
                return
            if found.status == "running":
                if not force:
                    message = refusals.STILL_RUNNING.format(container)
                    raise refusals.explain(message, where=container)
                self._end(found, 128 + signals.SIGKILL)
            self._containers.pop(found.id, None)

    def _run(self, container: _Container) -> None:
        process = Process(container, self._changed)
        name = process.command[0] if process.command else ""
        program = self._programs.get(name)
        if container.image.architecture != self.info.architecture:
            process.write(f"exec {name} failed: Exec format error\n", "stderr")
            code = 126
        elif program is None:
            process.write(f"exec {name} failed: No such file or directory\n", "stderr")
            code = 127
        else:
            try:
                code = program(process)
            except _Killed as killed:
                code = 128 + int(killed.args[0])
            except OSError:
                # Its sockets were closed when it was killed; otherwise it has crashed.
                code = 1
        with self._changed:
            self._end(container, code)

    def _end(self, container: _Container, code: int) -> None:
        if container.status != "running":
            return
        container.status, container.exit_code = "exited", code
        for listener in container.sockets.values():
            listener.close()
        container.sockets.clear()
        if container.spec.remove:
            self._containers.pop(container.id, None)
        self._changed.notify_all()

    def _follow(self, container: _Container, position: int) -> Iterator[LogChunk]:
        while True:
            with self._changed:
                if len(container.output) == position and container.status != "exited":
                    self._changed.wait(0.2)
                chunks = container.output[position:]
                # Attached before its start, and then removed without one.
                unstarted = container.status == "created" and container.id not in self._containers
                over = container.status == "exited" or unstarted
            yield from chunks
            position += len(chunks)
            if over and not chunks:
                return

    def _find(self, container: str) -> _Container | None:
        for found in self._containers.values():
            if container in (found.id, found.name) or (
                len(container) >= 12 and found.id.startswith(container)
            ):
                return found
        return None

    def _need(self, container: str) -> _Container:
        found = self._find(container)
        if found is None:
            raise refusals.explain(refusals.NO_CONTAINER.format(container), where=container)
        return found

    def _need_image(self, reference: str) -> LocalImage:
        image = self.image(reference)
        if image is None:
            raise refusals.explain(refusals.NO_IMAGE.format(reference), where=reference)
        return image


def command_of(spec: ContainerSpec, image: LocalImage) -> tuple[str, ...]:
    """What a container runs (image-spec config.md); another entrypoint drops the image's Cmd."""
    config = image.config
    own = () if spec.entrypoint is not None else tuple(config.get("Cmd") or ())
    entrypoint = spec.entrypoint
    if entrypoint is None:
        entrypoint = tuple(config.get("Entrypoint") or ())
    return (*entrypoint, *(own if spec.command is None else spec.command))


def _open_ports(container: _Container) -> None:
    opened: list[Port] = []
    for port in container.spec.ports:
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((port.host_ip or "0.0.0.0", port.host or 0))  # noqa: S104 - as Docker
        except OSError as error:
            listener.close()
            for other in container.sockets.values():
                other.close()
            container.sockets.clear()
            taken = refusals.PORT_TAKEN.format(f"{port.host_ip or '0.0.0.0'}:{port.host}")  # noqa: S104
            raise refusals.explain(taken, where=container.name) from error
        container.sockets[port.container] = listener
        opened.append(replace(port, host=listener.getsockname()[1]))
    container.ports = tuple(opened)


def _tagged(reference: str) -> str:
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


class _Reader(io.RawIOBase):
    """Chunks as a file to read, for tarfile's stream mode."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


def _read_archive(file: _Reader, known: frozenset[tuple[str, ...]]) -> Iterator[LocalImage]:
    """Read a docker-archive: manifest.json names config and layers; the rest may lie anywhere."""
    documents: dict[str, bytes] = {}
    diff_ids: dict[str, str] = {}
    with closing(tarfile.open(fileobj=file, mode="r|", bufsize=1 << 16)) as archive:
        for member in archive:
            body = archive.extractfile(member) if member.isreg() else None
            if body is None:
                continue
            data = body.read() if member.size <= _SMALL else b""
            documents[member.name] = data
            diff_ids[member.name] = _diff_id(io.BytesIO(data) if data else body)
    manifest = json.loads(documents["manifest.json"])
    for entry in manifest:
        config = documents[entry["Config"]]
        value: Any = json.loads(config)
        layers = tuple(value["rootfs"]["diff_ids"])
        depth = shared_depth(layers, known)
        for number, (layer, name) in enumerate(zip(layers, entry["Layers"], strict=True)):
            if number >= depth and name not in diff_ids:
                raise ValueError(f"open {name}: no such file or directory")
            if number >= depth and diff_ids[name] != layer:
                raise ValueError(f"the layer {name} isn't {layer}")
        yield LocalImage(
            id=f"sha256:{hashlib.sha256(config).hexdigest()}",
            references=tuple(entry.get("RepoTags") or ()),
            layers=layers,
            architecture=value.get("architecture", "amd64"),
            os=value.get("os", "linux"),
            created=value.get("created", ""),
            config=value.get("config") or {},
        )


def _diff_id(body: IO[bytes]) -> str:
    hashed = hashlib.sha256()
    start = body.read(2)
    joined = _Joined(start, body)
    rest: _Joined | gzip.GzipFile = joined
    if start == b"\x1f\x8b":
        rest = gzip.GzipFile(fileobj=joined)
    while data := rest.read(1 << 16):
        hashed.update(data)
    return f"sha256:{hashed.hexdigest()}"


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of a file."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        if self._start:
            taken, self._start = self._start, b""
            return taken
        return self._rest.read(size)
