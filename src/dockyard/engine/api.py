"""What is asked of a container engine: two protocols, and the nouns they speak of.

Rules: every engine raises EngineError with the same meaning for the same mistake. Containers are
named by their id or name, images by a reference or id. Layers are named by diff IDs ("sha256:…"),
bottom first. Nothing here reaches an engine; `find_engine` in `connect` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dockyard.engine.spec import MANAGED, ContainerSpec, Gpus, Port, Volume
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "MANAGED",
    "ContainerSpec",
    "ContainerState",
    "Containers",
    "Engine",
    "EngineInfo",
    "Gpus",
    "Health",
    "HistoryLine",
    "ImageReader",
    "Images",
    "LocalImage",
    "LogChunk",
    "Port",
    "StartError",
    "Status",
    "Volume",
]

Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
Health = Literal["none", "starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Which engine answers.

    address: the host on which published ports are reached from here; None when only the engine's
    own machine can reach them. partial_loads: an archive may leave out layers that the engine has.
    """

    kind: Literal["docker", "podman", "memory"]
    version: str
    architecture: str
    address: str | None = "127.0.0.1"
    partial_loads: bool = True

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
class ContainerState:
    """A container as it is now.

    exit_code: None until it has ended; ports: published ones, with the real host port;
    health_output: what the last failed health check said; error: why it couldn't start.
    """

    id: str
    name: str
    image: str
    status: Status
    exit_code: int | None = None
    health: Health = "none"
    health_output: str = ""
    oom_killed: bool = False
    error: str = ""
    ports: tuple[Port, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    created: str = ""

    @property
    def ended(self) -> bool:
        """Whether its process has run and is over."""
        return self.status in ("exited", "dead", "removing")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """A line of an image's history; size: unpacked bytes, 0 where only the config changed."""

    created_by: str
    size: int


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Some bytes that a container wrote; not necessarily whole lines."""

    stream: Literal["stdout", "stderr"]
    data: bytes


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


class Images(Protocol):
    """The images of an engine."""

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a docker-archive or OCI-layout tar, streamed; return the names or ids loaded."""

    def image(self, reference: str) -> LocalImage | None:
        """The image with this name or id, or None."""

    def images(self) -> tuple[LocalImage, ...]:
        """All images, newest first."""

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image, for archives that leave known layers out.

        Empty where the engine needs every layer in the archive.
        """

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""


class ImageReader(Protocol):
    """An engine that shows what its images are made of."""

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The image's layers, bottom first: what made each, and its unpacked bytes."""

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as a docker-archive tar, streamed."""


class Containers(Protocol):
    """The containers of an engine."""

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""

    def start(self, container: str) -> None:
        """Start a created or ended container."""

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns.

        Attached before the start it misses nothing.
        """

    def logs(
        self, container: str, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[LogChunk]:
        """What it wrote, in order; with `follow` until it ends, with `tail` only the last lines."""

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label ("name" or "name=value"; None: all), ended ones too."""

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; absent ones are no error."""


class Engine(Images, Containers, Protocol):
    """A container engine."""

    @property
    def info(self) -> EngineInfo:
        """Which engine it is."""
