"""Docker, and Podman through its Docker-compatible socket, by the Engine API (1.41 and newer).

Rules: docker-py keeps the connection; requests it can't stream are made on its session. Foreign
errors become EngineError in `_translated`, and nowhere else. What is sent is decided by the pure
function `container_config`. What Podman does differently is handled here.
"""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import docker.errors
import requests
import urllib3.exceptions

from dockyard.engine.api import (
    ContainerState,
    EngineInfo,
    HistoryLine,
    LocalImage,
    LogChunk,
    Port,
)
from dockyard.engine.refusals import explain
from dockyard.engine.spec import GRACE, MANAGED
from dockyard.errors import EngineError
from dockyard.oci.platform import Platform
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from docker import APIClient

    from dockyard.engine.spec import ContainerSpec, Volume

_ANSWER = 60  # Seconds for requests that don't stream.
_INSPECTORS = 4  # Requests at once; more don't make the engine quicker.
_OLDEST = (1, 41)  # Docker 20.10.


class DockerEngine:
    """An engine that speaks the Docker Engine API; safe for several threads."""

    def __init__(self, api: APIClient, *, address: str = "127.0.0.1") -> None:
        self._api = api
        self._api.timeout = _ANSWER
        self._address = address
        self._seen: dict[str, LocalImage] = {}

    @cached_property
    def info(self) -> EngineInfo:
        """Which engine it is; raises EngineError when it is too old."""
        with _translated("the engine"):
            version = self._api.version()
            podman = any(
                part.get("Name") == "Podman Engine" for part in version.get("Components") or ()
            )
            # Docker with containerd's image store wants every blob in an archive.
            details = {} if podman else self._api.info()
        spoken = tuple(int(part) for part in str(version["ApiVersion"]).split("."))
        if spoken < _OLDEST and not podman:
            raise EngineError(
                f"Docker {version['Version']} is too old", hint="Docker 20.10 or newer is needed."
            )
        containerd = "io.containerd.snapshotter" in str(details.get("DriverStatus"))
        return EngineInfo(
            kind="podman" if podman else "docker",
            version=str(version["Version"]),
            architecture=_architecture(str(version.get("Arch") or "")),
            address=self._address,
            partial_loads=not podman and not containerd,
        )

    # Images

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a docker-archive or OCI-layout tar, streamed; return the names or ids loaded."""
        source = _Source(chunks)
        loaded: list[str] = []
        with _translated("loading the image", source):
            # A time limit can't be told: the engine unpacks layers before it says a word.
            response = self._request("POST", "/images/load", data=iter(source), stream=True)
            if not response.ok:
                raise EngineError(
                    f"the engine can't load the image: {_load_failure(_message(response))}",
                    where=str(self.info),
                )
            for line in response.iter_lines():
                text = _load_answer(line, str(self.info))
                if text.startswith("Loaded image"):
                    loaded.append(text.partition(": ")[2].strip())
        if not loaded:
            raise EngineError(
                "the engine loaded nothing", where=str(self.info), hint="Is it an image archive?"
            )
        return tuple(loaded)

    def image(self, reference: str) -> LocalImage | None:
        """The image with this name or id, or None."""
        with _translated(reference):
            try:
                value: Any = self._api.inspect_image(reference)  # type: ignore[no-untyped-call]
                return _read_image(value)
            except docker.errors.NotFound:
                return None

    def images(self) -> tuple[LocalImage, ...]:
        """All images, newest first."""
        with _translated("listing images"):
            listed = self._api.images()
            # An id is the hash of a config, so its layers never change; its names do.
            missing = [entry["Id"] for entry in listed if entry["Id"] not in self._seen]
            with ThreadPoolExecutor(_INSPECTORS) as pool:
                for image in pool.map(self.image, missing):
                    if image is not None:
                        self._seen[image.id] = image
        newest = sorted(listed, key=lambda entry: -int(entry.get("Created") or 0))
        found = dict.fromkeys(entry["Id"] for entry in newest)
        names = {entry["Id"]: _names(entry) for entry in listed}
        return tuple(
            _renamed(self._seen[number], names[number]) for number in found if number in self._seen
        )

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image; empty where archives must hold every layer."""
        if not self.info.partial_loads:
            return frozenset()
        return frozenset(image.layers for image in self.images() if image.layers)

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The image's layers, bottom first: what made each, and its unpacked bytes."""
        with _translated(reference):
            lines: Any = self._api.history(reference)  # type: ignore[no-untyped-call]
        return tuple(
            HistoryLine(created_by=str(line.get("CreatedBy") or ""), size=int(line["Size"] or 0))
            for line in reversed(lines)
        )

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as a docker-archive tar, streamed."""
        with _translated(reference):
            yield from self._api.get_image(reference, chunk_size=1 << 20)

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""
        name, _, tag = reference.rpartition(":")
        if not name or "/" in tag:
            name, tag = reference, "latest"
        with _translated(image):
            self._api.tag(image, name, tag)

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""
        with _translated(reference):
            try:
                self._api.remove_image(reference, force=force)
            except docker.errors.NotFound:
                return

    # Containers

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""
        if spec.gpus is not None and self.info.kind == "podman":
            raise EngineError(
                "this engine can't hand GPUs to containers: Podman's socket ignores the request",
                where=str(self.info),
                hint="Use Docker with the NVIDIA Container Toolkit, or run without --gpus.",
            )
        with _translated(spec.name or spec.image):
            try:
                made = self._create(spec)
            except docker.errors.APIError as error:
                if not spec.init or "container-init binary" not in str(error.explanation):
                    raise
                # Podman without catatonit. An init is a default, not a wish.
                reporter.warn("The engine has no init program: signals may be slow to stop it.")
                made = self._create(replace(spec, init=False))
        for warning in made.get("Warnings") or ():
            reporter.warn(str(warning))
        return str(made["Id"])

    def start(self, container: str) -> None:
        """Start a created or ended container."""
        with _translated(container):
            self._api.start(container)

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""
        seconds = GRACE if grace is None else grace
        with _translated(container):
            self._api.stop(container, timeout=max(0, round(seconds)))

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""
        with _translated(container):
            self._api.kill(container, signal)

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""
        with _translated(container):
            return int(self._api.wait(container)["StatusCode"])

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns."""
        with _translated(container):
            frames = self._api.attach(container, stdout=True, stderr=True, stream=True, demux=True)
        return _demultiplexed(container, frames)

    def logs(
        self, container: str, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[LogChunk]:
        """What it wrote, in order; with `follow` until it ends, with `tail` only the last lines."""
        query = {"stdout": 1, "stderr": 1, "follow": int(follow)}
        if tail is not None:
            query["tail"] = tail
        with _translated(container):
            response = self._request(
                "GET", f"/containers/{container}/logs", params=query, stream=True
            )
            if not response.ok:
                raise explain(_message(response), where=container)
            try:
                yield from _frames(response.raw)
            finally:
                response.close()

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""
        with _translated(container):
            try:
                return _read_container(self._api.inspect_container(container))
            except docker.errors.NotFound:
                return None

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label ("name" or "name=value"; None: all), ended ones too."""
        filters = {} if label is None else {"label": label}
        with _translated("listing containers"):
            listed = self._api.containers(all=True, filters=filters)
        states = (self.container(entry["Id"]) for entry in listed)
        return tuple(state for state in states if state is not None)

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""
        with _translated(container):
            check = self._api.inspect_container(container)["Config"].get("Healthcheck") or {}
            match check.get("Test") or ():
                case ["CMD", *command]:
                    pass
                case ["CMD-SHELL", script]:
                    command = ["/bin/sh", "-c", script]
                case _:
                    return None
            number = self._api.exec_create(container, command)["Id"]
            # A thread, because docker-py would wait without limit for a check that hangs; attached,
            # because Podman 4.3 never says that a detached one is over.
            limit = (check.get("Timeout") or 30e9) / 1e9
            thread = threading.Thread(target=self._execute, args=(number,), daemon=True)
            thread.start()
            thread.join(limit)
            state = self._api.exec_inspect(number)
            return not state["Running"] and state["ExitCode"] == 0

    def _execute(self, number: str) -> None:
        with suppress(EngineError), _translated(number):
            self._api.exec_start(number)

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; absent ones are no error."""
        if force and self.info.kind == "podman":
            # Podman would first wait out the grace time.
            with suppress(EngineError):
                self.kill(container)
        with _translated(container):
            try:
                self._api.remove_container(container, v=True, force=force)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                # 409: the engine is removing it already (--rm).
                if "already in progress" not in str(error.explanation):
                    raise

    def _create(self, spec: ContainerSpec) -> dict[str, Any]:
        made: dict[str, Any] = self._api.create_container_from_config(  # type: ignore[no-untyped-call]
            container_config(spec), spec.name
        )
        return made

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request whose answer may take for ever; docker-py's own are limited or unsplit."""
        url = f"{self._api.base_url}/v{self._api.api_version}{path}"
        options.setdefault("timeout", (_ANSWER, None))
        return self._api.request(method, url, **options)


def container_config(spec: ContainerSpec) -> dict[str, Any]:
    """The body of POST /containers/create (Engine API 1.41) for a spec."""
    # SELinux labels exist only in the older form of mounts.
    bound = [v for v in spec.volumes if v.kind == "bind" and {"z", "Z"} & set(v.options)]
    host: dict[str, Any] = {
        "Init": spec.init,
        "ShmSize": spec.shm_size,
        "AutoRemove": spec.remove,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": list(spec.security_options),
        "PortBindings": _port_bindings(spec.ports),
        "Mounts": [_mount(volume) for volume in spec.volumes if volume not in bound],
        "Binds": [":".join((v.source, v.target, _bind_options(v))) for v in bound],
        "Tmpfs": dict(spec.tmpfs),
    }
    if spec.network is not None:
        host["NetworkMode"] = spec.network
    if spec.memory is not None:
        host["Memory"] = spec.memory
    if spec.cpus is not None:
        host["NanoCpus"] = round(spec.cpus * 1e9)
    if spec.gpus is not None:
        request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
        if spec.gpus.ids:
            request["DeviceIDs"] = list(spec.gpus.ids)
        else:
            request["Count"] = -1 if spec.gpus.count is None else spec.gpus.count
        host["DeviceRequests"] = [request]
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": {MANAGED: "true", **spec.labels},
        "ExposedPorts": {port.key: {} for port in spec.ports},
        "StopTimeout": max(0, round(spec.grace)),
        "HostConfig": host,
    }
    if spec.command is not None:
        config["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        # An empty list would mean the image's own; [""] is how the API clears it.
        config["Entrypoint"] = list(spec.entrypoint) or [""]
    if spec.user is not None:
        config["User"] = spec.user
    if spec.workdir is not None:
        config["WorkingDir"] = spec.workdir
    return config


def _port_bindings(ports: Iterable[Port]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host or "")}
        bindings.setdefault(port.key, []).append(binding)
    return bindings


def _mount(volume: Volume) -> dict[str, Any]:
    mount: dict[str, Any] = {
        "Type": volume.kind,
        "Target": volume.target,
        "ReadOnly": volume.read_only,
    }
    if volume.source:
        mount["Source"] = volume.source
    propagation = [option for option in volume.options if option not in ("nocopy", "z", "Z")]
    if propagation:
        mount["BindOptions"] = {"Propagation": propagation[-1]}
    if "nocopy" in volume.options:
        mount["VolumeOptions"] = {"NoCopy": True}
    return mount


def _bind_options(volume: Volume) -> str:
    return ",".join(("ro" if volume.read_only else "rw", *volume.options))


def _read_image(value: Mapping[str, Any]) -> LocalImage:
    rootfs = value.get("RootFS") or {}
    return LocalImage(
        id=str(value["Id"]),
        references=_names(value),
        layers=tuple(rootfs.get("Layers") or ()),
        architecture=_architecture(str(value.get("Architecture") or "")),
        os=str(value.get("Os") or "linux"),
        size=int(value.get("Size") or 0),
        created=str(value.get("Created") or ""),
        config=value.get("Config") or {},
    )


def _names(value: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in value.get("RepoTags") or () if name != "<none>:<none>")


def _renamed(image: LocalImage, references: tuple[str, ...]) -> LocalImage:
    return replace(image, references=references)


def _read_container(value: Mapping[str, Any]) -> ContainerState:
    state, config = value["State"], value.get("Config") or {}
    # Podman before 4.4 says Healthcheck, and "" where there is none.
    health = state.get("Health") or state.get("Healthcheck") or {}
    log = health.get("Log") or [{}]
    status = {"stopped": "exited", "configured": "created", "stopping": "running"}.get(
        state["Status"], state["Status"]
    )
    return ContainerState(
        id=str(value["Id"]),
        name=str(value.get("Name") or "").lstrip("/"),
        image=str(config.get("Image") or ""),
        status=status,
        exit_code=int(state["ExitCode"]) if status in ("exited", "dead") else None,
        health=health.get("Status") or "none",
        health_output=str(log[-1].get("Output") or "").strip(),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        ports=_published((value.get("NetworkSettings") or {}).get("Ports") or {}),
        labels=config.get("Labels") or {},
        user=str(config.get("User") or ""),
        created=str(value.get("Created") or ""),
    )


def _published(ports: Mapping[str, Any]) -> tuple[Port, ...]:
    """Published ports; the twin for IPv6 of one for all IPv4 interfaces is left out."""
    found: dict[tuple[str, str], Port] = {}
    for key, bindings in ports.items():
        number, _, protocol = key.partition("/")
        for binding in bindings or ():
            address = str(binding.get("HostIp") or "0.0.0.0")  # noqa: S104 - read, not bound
            port = Port(
                container=int(number),
                protocol=protocol,
                host_ip="0.0.0.0" if address == "::" else address,  # noqa: S104
                host=int(binding["HostPort"]),
            )
            found.setdefault((key, f"{port.host_ip} {port.host}"), port)
    return tuple(sorted(found.values(), key=lambda p: (p.container, p.protocol, p.host or 0)))


def _frames(raw: Any) -> Iterator[LogChunk]:
    """Split the multiplexed stream: a stream number, three zeros, a length (Engine API, attach)."""
    while len(header := raw.read(8)) == 8:
        number, length = struct.unpack(">BxxxL", header)
        if length:
            yield LogChunk(_stream_name(number), raw.read(length))


def _stream_name(number: int) -> Literal["stdout", "stderr"]:
    return "stderr" if number == 2 else "stdout"


def _demultiplexed(container: str, frames: Iterable[Any]) -> Iterator[LogChunk]:
    with _translated(container):
        for out, err in frames:
            if out:
                yield LogChunk("stdout", out)
            if err:
                yield LogChunk("stderr", err)


class _Source:
    """Chunks on their way to the engine; remembers what their maker raised.

    requests reports any OSError as its own connection error, which would hide a full disk here.
    """

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = chunks
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes | memoryview]:
        try:
            for chunk in self._chunks:
                if chunk:  # An empty chunk would end the chunked body.
                    yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _load_answer(line: bytes, engine: str) -> str:
    import json

    try:
        value = json.loads(line) if line else {}
    except ValueError:
        return ""
    if message := value.get("error") or (value.get("errorDetail") or {}).get("message"):
        error = explain(str(message), where=engine)
        if error.hint is None:
            raise EngineError(
                f"the engine can't load the image: {_load_failure(str(message))}", where=engine
            )
        raise error
    return str(value.get("stream") or "")


def _load_failure(message: str) -> str:
    """Podman lists every format that it tried; the line about ours says most."""
    lines = [line.strip(" *") for line in message.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("docker-archive:")]
    return (ours or lines or ["no reason given"])[0].removeprefix("docker-archive: ")


def _message(response: requests.Response) -> str:
    try:
        return str(response.json().get("message") or response.text)
    except (ValueError, AttributeError):
        return response.text or response.reason


def _architecture(name: str) -> str:
    from dockyard.errors import ImageError

    try:
        return Platform.parse(name).architecture
    except ImageError:
        return name


@contextmanager
def _translated(where: str, source: _Source | None = None) -> Iterator[None]:
    """Turn what docker-py, requests and urllib3 raise into EngineError."""
    try:
        yield
    except docker.errors.APIError as error:
        raise explain(str(error.explanation or error), where=where) from error
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        docker.errors.DockerException,
        OSError,
    ) as error:
        if source is not None and source.failure is not None:
            raise source.failure from None
        late = isinstance(error, requests.Timeout)
        raise EngineError(
            "the engine doesn't answer in time" if late else "the connection to the engine broke",
            where=where,
            hint="Is the engine still running? `docker version` asks it.",
        ) from error
