"""What engines say: the nouns for images, containers, networks and volumes as they are now.

Rules: frozen, and the same on every engine. Times are RFC 3339 texts as the engine wrote them, ""
where there is none; sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dockyard.engine.spec import Port, Volume
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
Health = Literal["none", "starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Which engine answers, and on what machine.

    address: the host on which published ports are reached from here; None when only the engine's
    own machine can reach them. partial_loads: an archive may leave out layers that the engine has.
    cpus: cores of its machine. log_driver: who keeps what containers write.
    """

    kind: Literal["docker", "podman", "local", "memory"]
    version: str
    architecture: str
    address: str | None = "127.0.0.1"
    partial_loads: bool = True
    cpus: int = 1
    log_driver: str = ""

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalImage:
    """An image that the engine has.

    references: its names with tags; layers: diff IDs, bottom first; config: the image-spec's
    `config` object (Env, Cmd, ExposedPorts, Healthcheck…); size: unpacked bytes.
    """

    id: str
    references: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    architecture: str = "amd64"
    os: str = "linux"
    size: int = 0
    created: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Mapping[str, str]:
        """The image's labels."""
        return self.config.get("Labels") or {}

    @property
    def exposed_ports(self) -> tuple[Port, ...]:
        """The ports that the image says it listens on."""
        ports = []
        for key in self.config.get("ExposedPorts") or {}:
            number, _, protocol = key.partition("/")
            if number.isdigit():
                ports.append(Port(container=int(number), protocol=protocol or "tcp"))
        return tuple(sorted(ports, key=lambda port: (port.protocol, port.container)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """A line of an image's history; size: unpacked bytes, 0 where only the config changed."""

    created_by: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """A container as it is now.

    command: all that was started, entrypoint first; exit_code: None until it has ended; ports:
    published ones, with the real host port; health_output: what the last failed health check said;
    health_patience: seconds from its start in which the check may fail; error: why it couldn't
    start; networks: name to its address there ("" while it doesn't run); restarts: how often the
    engine started it again.
    """

    id: str
    name: str
    image: str
    status: Status
    image_id: str = ""
    command: tuple[str, ...] = ()
    exit_code: int | None = None
    health: Health = "none"
    health_output: str = ""
    health_patience: float = 0
    oom_killed: bool = False
    error: str = ""
    ports: tuple[Port, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Volume, ...] = ()
    user: str = ""
    terminal: bool = False
    created: str = ""
    started: str = ""
    finished: str = ""
    restarts: int = 0

    @property
    def ended(self) -> bool:
        """Whether its process has run and is over."""
        return self.status in ("exited", "dead", "removing")


def health_patience(check: Mapping[str, Any]) -> float:
    """Seconds in which a health check (Docker's JSON, times in nanoseconds) may fail.

    Its start period and all its retries, and one interval more so that an engine speaks first.
    """
    rounds = (check.get("Retries") or 3) + 1
    return float((check.get("StartPeriod") or 0) + (check.get("Interval") or 30e9) * rounds) / 1e9


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Some bytes that a container wrote; not necessarily whole lines."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A command to run in a running container.

    None means the container's own (user, workdir). interactive: it gets input from here;
    terminal: it gets a terminal, and all that it writes is stdout.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    workdir: str | None = None
    interactive: bool = False
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a container has used at a moment; None where the engine can't tell.

    at: seconds on a clock that never goes back. cpu: seconds of processor time since its start;
    memory: bytes without the file cache; memory_limit: bytes, None without one; the rest: bytes
    since its start. Rates are differences of two of these.
    """

    at: float
    cpu: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    network_received: int | None = None
    network_sent: int | None = None
    block_read: int | None = None
    block_written: int | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLine:
    """A process of a container; pid: on the engine's machine; time: of the processor, as ps."""

    pid: int
    user: str
    time: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathInfo:
    """A path in a container, symbolic links not followed; link: where one points."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int = 0
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network; containers: ids of those on it, as far as the engine tells."""

    id: str
    name: str
    driver: str = "bridge"
    internal: bool = False
    subnets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVolume:
    """A volume that the engine keeps; path: on the engine's machine."""

    name: str
    driver: str = "local"
    path: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""


class UnsupportedError(EngineError):
    """This engine can't do it, here or at all; `what` says why in one sentence."""


class LostEngineError(EngineError):
    """The connection to the engine broke, or it didn't answer in time; it may come back."""


class StartError(EngineError):
    """A container ended or became unhealthy before it was ready.

    container_exit_code: its exit code, None while it runs; log_tail: its last lines; advice: the
    hint without them.
    """

    def __init__(
        self,
        what: str,
        *,
        advice: str = "",
        container_exit_code: int | None = None,
        log_tail: Sequence[str] = (),
    ) -> None:
        lines = [advice] if advice else []
        lines += ["Its last lines:", *(f"  {line}" for line in log_tail)] if log_tail else []
        super().__init__(what, hint="\n".join(lines or ["It wrote nothing."]))
        self.advice = advice or None
        self.container_exit_code = container_exit_code
        self.log_tail = tuple(log_tail)
