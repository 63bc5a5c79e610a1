"""From a specification to a container that answers: start it, keep its output, wait, stop it.

Rules: ready means what the image's health check says; without one, that a published TCP port is
listened on; with neither, that it runs. The health check is also run by us, because engines run
it first after its whole interval (30 s by default). A container that ends well before it is ready
has simply done its work. Everything here works on any engine.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from dockyard.engine.api import StartError
from dockyard.engine.gpus.grant import take_gpus
from dockyard.engine.gpus.verify import verify_gpus
from dockyard.engine.refusals import explain_exit
from dockyard.engine.spec import GRACE
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockyard.engine.api import ContainerState, Engine, LogChunk, Port
    from dockyard.engine.gpus.grant import Grant
    from dockyard.engine.spec import ContainerSpec

TAIL = 20
"""Lines of a failed container's output in its error."""

_LAST_WORDS = 2.0  # Seconds for output that is still on its way when a container has ended.
_PROXY_ANSWER = 0.15  # Seconds in which a proxy in front of a deaf port hangs up.


class Output:
    """What a container writes: passed on as it comes, its last lines kept."""

    def __init__(
        self, chunks: Iterator[LogChunk], write: Callable[[LogChunk], None] | None = None
    ) -> None:
        self._chunks = chunks
        self._write = write
        self._lines: deque[bytes] = deque(maxlen=TAIL)
        self._open: dict[str, bytes] = {}
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._pump, daemon=True, name="container-output")
        self._thread.start()

    def tail(self) -> tuple[str, ...]:
        """The last lines of both streams, in the order in which they were finished."""
        lines = [*self._lines, *(rest for rest in self._open.values() if rest)]
        return tuple(line.decode("utf-8", "replace").rstrip("\r") for line in lines[-TAIL:])

    def finish(self, seconds: float | None = _LAST_WORDS) -> None:
        """Wait until everything written has been passed on."""
        self._thread.join(seconds)

    def _pump(self) -> None:
        try:
            for chunk in self._chunks:
                if self._write is not None:
                    self._write(chunk)
                *lines, rest = (self._open.get(chunk.stream, b"") + chunk.data).split(b"\n")
                self._lines.extend(lines)
                # A progress bar is one line without end; its newest part is what counts.
                self._open[chunk.stream] = rest[-4096:]
        except (EngineError, OSError) as error:
            self.failure = error


@dataclass(slots=True, kw_only=True)
class Running:
    """A container that was made here; started: a monotonic time in seconds; grant: its GPUs."""

    engine: Engine
    id: str
    name: str
    output: Output
    grace: float
    started: float = 0.0
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How a container became ready, after how many seconds; urls: where it answers.

    "ended": it did its work and exited with code 0. reached: False when it is healthy, but none
    of its published ports answers: it listens inside the container only.
    """

    how: Literal["healthy", "listening", "running", "ended"]
    seconds: float
    urls: tuple[str, ...] = ()
    reached: bool = True


def prepare(
    engine: Engine,
    spec: ContainerSpec,
    *,
    write: Callable[[LogChunk], None] | None = None,
    reporter: Reporter = SILENT,
) -> Running:
    """Make a container whose output goes to `write` from the first byte on; `start` starts it."""
    image = engine.image(spec.image) if spec.gpus is not None else None
    grant = take_gpus(spec, engine, image=image, reporter=reporter)
    try:
        container = engine.create(grant.spec, reporter=reporter)
    except BaseException:
        grant.release()
        raise
    try:
        state = engine.container(container)
        # Attached before it starts: with --rm a quick death would take its last words along.
        output = Output(engine.attach(container), write)
    except BaseException:
        engine.remove(container, force=True)
        grant.release()
        raise
    name = state.name if state is not None else container[:12]
    return Running(
        engine=engine, id=container, name=name, output=output, grace=spec.grace, grant=grant
    )


def start(running: Running, *, reporter: Reporter = SILENT) -> None:
    """Start it; one that the engine can't start, or that lacks its GPUs, is removed again."""
    running.started = time.monotonic()
    engine, grant = running.engine, running.grant
    try:
        engine.start(running.id)
        if grant is not None and grant.spec.gpus is not None:
            grant.settle(engine, running.id)
            verify_gpus(engine, running.id, grant.spec.gpus, reporter=reporter)
    except EngineError:
        engine.remove(running.id, force=True)
        if grant is not None:
            grant.release()
        raise


def launch(
    engine: Engine,
    spec: ContainerSpec,
    *,
    write: Callable[[LogChunk], None] | None = None,
    reporter: Reporter = SILENT,
) -> Running:
    """Make and start a container: `prepare` and `start` in one."""
    running = prepare(engine, spec, write=write, reporter=reporter)
    start(running, reporter=reporter)
    return running


def adopt(engine: Engine, container: str) -> Running:
    """A container that was started in another way, with what it has written since then."""
    state = engine.container(container)
    if state is None:
        raise EngineError(f"there is no container {container}")
    since = datetime.fromisoformat(state.started).timestamp() if state.started else None
    running = Running(
        engine=engine,
        id=state.id,
        name=state.name,
        output=Output(engine.logs(state.id, follow=True, since=since)),
        grace=GRACE,
    )
    running.started = time.monotonic()
    return running


def wait_ready(running: Running, *, timeout: float | None = None) -> Readiness:
    """Wait until it is ready; raises StartError when it ends badly, is unhealthy or too slow."""
    engine, pause = running.engine, 0.02
    while True:
        state = engine.container(running.id)
        seconds = time.monotonic() - running.started
        if state is None or state.ended:
            if state is not None and state.exit_code == 0:
                return Readiness(how="ended", seconds=seconds)
            raise _died(running, state)
        how = _readiness(engine, state)
        if how is not None:
            return Readiness(
                how=how,
                seconds=time.monotonic() - running.started,
                urls=urls(state.ports, engine.info.address),
                reached=how != "healthy" or _reached(engine, state) is not False,
            )
        # Podman without systemd never runs the check itself: ours has failed all the time.
        overdue = state.health == "starting" and seconds > state.health_patience
        if state.health == "unhealthy" or overdue:
            raise _failed(running, "is unhealthy", state.health_output)
        if timeout is not None and seconds > timeout:
            raise _failed(running, f"wasn't ready after {timeout:g} s", state.health_output)
        time.sleep(pause)
        pause = min(pause * 1.4, 0.5)


def stop(running: Running, signal: str = "SIGTERM") -> int | None:
    """Pass a signal on, kill the container after its grace time; return its exit code.

    A shell that waits for its child heeds no SIGINT; so SIGTERM follows at half time.
    Called again (a second Ctrl-C interrupts the first call) with "SIGKILL" it doesn't wait.
    """
    engine = running.engine
    deadline = time.monotonic() + running.grace
    signals = deque([(deadline - running.grace / 2, "SIGTERM"), (deadline, "SIGKILL")])
    # Refused when it has just ended by itself, which is what was wanted.
    with suppress(EngineError):
        engine.kill(running.id, signal)
    while (state := engine.container(running.id)) is not None:
        if state.ended or state.status == "created":
            break
        if signals and time.monotonic() > signals[0][0]:
            with suppress(EngineError):
                engine.kill(running.id, signals.popleft()[1])
        time.sleep(0.05)
    running.output.finish()
    return None if state is None else state.exit_code


def urls(ports: tuple[Port, ...], address: str | None) -> tuple[str, ...]:
    """Where the published TCP ports are reached from here."""
    found = []
    for port in ports:
        if port.protocol == "tcp" and port.host and (host := _reachable(port, address)):
            bracketed = f"[{host}]" if ":" in host else host
            found.append(f"http://{bracketed}:{port.host}")
    return tuple(dict.fromkeys(found))


def _readiness(
    engine: Engine, state: ContainerState
) -> Literal["healthy", "listening", "running"] | None:
    if state.status != "running":
        return None
    if state.health == "healthy":
        return "healthy"
    if state.health == "starting":
        try:
            return "healthy" if engine.probe(state.id) else None
        except EngineError:
            return None  # It ended meanwhile; the next look at its state says how.
    if state.health == "unhealthy":
        return None
    match _reached(engine, state):
        case None:
            return "running"
        case reached:
            return "listening" if reached else None


def _reached(engine: Engine, state: ContainerState) -> bool | None:
    """Whether one of the published ports answers; None where there is none to ask."""
    targets = [
        (host, port.host)
        for port in state.ports
        if port.protocol == "tcp" and port.host and (host := _reachable(port, engine.info.address))
    ]
    return any(_listens(host, port) for host, port in targets) if targets else None


def _reachable(port: Port, address: str | None) -> str | None:
    """The host name for a published port, None when only the engine's own machine reaches it."""
    if address is None:
        return None
    local = address in ("127.0.0.1", "::1")
    if port.host_ip in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return address
    if port.host_ip.startswith("127.") or port.host_ip == "::1":
        return port.host_ip if local else None
    return port.host_ip


def _listens(host: str, port: int) -> bool:
    """Whether someone behind the port answers.

    An engine's proxy accepts for a port on which nobody listens yet, and then hangs up.
    """
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(_PROXY_ANSWER)
            return connection.recv(1) != b""
    except TimeoutError:
        return True  # It waits for us to speak first, as HTTP servers do.
    except OSError:
        return False


def _died(running: Running, state: ContainerState | None) -> StartError:
    running.output.finish()
    tail = running.output.tail()
    if state is None:
        what, hint = "stopped and was removed", ""
    else:
        image = running.engine.image(state.image)
        architecture = running.engine.info.architecture
        what, hint = explain_exit(
            state.exit_code,
            tail,
            oom_killed=state.oom_killed,
            architecture=architecture,
            foreign=image is not None and image.architecture != architecture,
            command=next(iter(state.command), ""),
        )
    return StartError(
        f"the container {running.name} {what} before it was ready",
        advice=hint,
        container_exit_code=None if state is None else state.exit_code,
        log_tail=tail,
    )


def _failed(running: Running, what: str, health_output: str) -> StartError:
    tail = running.output.tail()
    checked = f"Its health check said: {health_output[-500:]}" if health_output else ""
    return StartError(f"the container {running.name} {what}", advice=checked, log_tail=tail)
