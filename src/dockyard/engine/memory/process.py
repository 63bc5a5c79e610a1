"""What a program of the engine in memory sees: its container, as Python."""

from __future__ import annotations

import signal as signals
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from dockyard.engine.state import LogChunk

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from dockyard.engine.memory.store import Container, Store
    from dockyard.engine.spec import ContainerSpec
    from dockyard.engine.state import LocalImage


class KilledError(BaseException):
    """Ends a program that didn't handle its signal; its argument is the signal's number."""


class Process:
    """A program's view of its container; files are shared with the health check and `exec`."""

    def __init__(
        self,
        store: Store,
        container: Container,
        changed: threading.Condition,
        *,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        emit: Callable[[LogChunk], None] | None = None,
        source: list[bytes | None] | None = None,
    ) -> None:
        self._store = store
        self._container = container
        self._changed = changed
        self._emit = emit
        self._source = container.input if source is None else source
        self._ignored: frozenset[int] = frozenset()
        self.files = container.files
        config = container.image.config
        listed = dict(item.partition("=")[::2] for item in config.get("Env") or ())
        own = {**listed, **container.spec.environment}
        self.environment: Mapping[str, str] = {**own, **(environment or {})}
        self.command = tuple(command or command_of(container.spec, container.image))

    def write(self, text: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
        """Write to one of the streams."""
        chunk = LogChunk(stream, text.encode())
        with self._changed:
            if self._emit is not None:
                self._emit(chunk)
            elif self._container.status == "running":
                self._container.output.append((time.time(), chunk))
            self._changed.notify_all()

    def run_out_of_memory(self) -> None:
        """Note that it wanted more than its limit."""
        self._container.oom_killed = True

    def read(self) -> bytes:
        """The next piece of input, b"" at its end; waits for it."""
        with self._changed:
            while not self._source:
                if self._container.status != "running":
                    raise KilledError(signals.SIGKILL)
                self._changed.wait(0.2)
            piece = self._source.pop(0)
            if piece is None:
                self._source.insert(0, None)
            return piece or b""

    def find_host(self, name: str) -> str | None:
        """The address of another container on one of the networks, or None."""
        with self._changed:
            return self._store.find_host(self._container, name)

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
                    raise KilledError(signals.SIGKILL)
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
            raise KilledError(signals.Signals[name])


Program = Callable[[Process], int]


def run_program(programs: Mapping[str, Program], process: Process, *, foreign: bool) -> int:
    """Run a container's program; return its exit code, as an engine would have it."""
    name = process.command[0] if process.command else ""
    program = programs.get(name)
    if foreign:
        process.write(f"exec {name} failed: Exec format error\n", "stderr")
        return 126
    if program is None:
        process.write(f"exec {name} failed: No such file or directory\n", "stderr")
        return 127
    try:
        return program(process)
    except KilledError as killed:
        return 128 + int(killed.args[0])
    except MemoryError:
        process.run_out_of_memory()
        return 128 + signals.SIGKILL
    except OSError as error:
        # Its sockets were closed when it was killed; otherwise it has crashed.
        process.write(f"{error}\n", "stderr")
        return 1


def command_of(spec: ContainerSpec, image: LocalImage) -> tuple[str, ...]:
    """What a container runs (image-spec config.md); another entrypoint drops the image's Cmd."""
    config = image.config
    own = () if spec.entrypoint is not None else tuple(config.get("Cmd") or ())
    entrypoint = spec.entrypoint
    if entrypoint is None:
        entrypoint = tuple(config.get("Entrypoint") or ())
    return (*entrypoint, *(own if spec.command is None else spec.command))
