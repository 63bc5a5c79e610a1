"""What is asked of a container engine: small protocols, whose nouns are in `spec` and `state`.

Rules: every engine raises EngineError with the same meaning for the same mistake, and
UnsupportedError for what it can't do. Containers are named by their id, name or the id's first
twelve digits and more; images by a reference or id. Layers are named by diff IDs ("sha256:…"),
bottom first. `label` is "name" or "name=value", None for all. Nothing here reaches an engine;
`find_engine` in `connect` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dockyard.engine.spec import (
    MANAGED,
    ContainerSpec,
    Gpus,
    Port,
    Restart,
    Secret,
    Ulimit,
    Volume,
)
from dockyard.engine.state import (
    ContainerState,
    EngineInfo,
    Execution,
    Health,
    HistoryLine,
    LocalImage,
    LogChunk,
    NamedVolume,
    Network,
    PathInfo,
    ProcessLine,
    StartError,
    Status,
    UnsupportedError,
    Usage,
)
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
    "Execution",
    "Gpus",
    "Health",
    "HistoryLine",
    "ImageReader",
    "Images",
    "Inside",
    "LocalImage",
    "LogChunk",
    "NamedVolume",
    "Network",
    "Networks",
    "PathInfo",
    "Port",
    "ProcessLine",
    "Restart",
    "Secret",
    "Session",
    "StartError",
    "Status",
    "Ulimit",
    "UnsupportedError",
    "Usage",
    "Volume",
    "Volumes",
]


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

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The image's layers, bottom first: what made each, and its unpacked bytes."""

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""


class ImageReader(Protocol):
    """An engine that gives its images' bytes back."""

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as a docker-archive tar, streamed."""


class Containers(Protocol):
    """The life of an engine's containers."""

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""

    def start(self, container: str) -> None:
        """Start a created or ended container; a running one is no error."""

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""

    def restart(self, container: str, *, grace: float | None = None) -> None:
        """Stop it as `stop` does if it runs, then start it."""

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns.

        Attached before the start it misses nothing.
        """

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[LogChunk]:
        """What it wrote, in order, streamed.

        follow: until it ends; tail: only so many last lines; since: only what was written at or
        after this Unix time in seconds.
        """

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label, newest first, ended ones too."""

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; absent ones are no error."""


class Session(Protocol):
    """A program in a container that someone talks to; its methods may be called by two threads."""

    def output(self) -> Iterator[LogChunk]:
        """What it writes, until it ends."""

    def write(self, data: bytes) -> None:
        """Give it input; a program that has ended takes none, which is no error."""

    def close_input(self) -> None:
        """Say that no more input comes."""

    def resize(self, *, columns: int, rows: int) -> None:
        """Say how large its terminal is."""

    def wait(self) -> int:
        """Its exit code, once its output has ended."""

    def close(self) -> None:
        """Let go of it; it isn't stopped."""


class Inside(Protocol):
    """What goes on in a container."""

    def execute(self, container: str, execution: Execution) -> Session:
        """Start another command in a running container."""

    def converse(self, container: str) -> Session:
        """Talk to its own program, made with `interactive`; before its start to miss nothing."""

    def usage(self, container: str) -> Usage:
        """What a running container has used until now; quick, so that it can be asked often."""

    def processes(self, container: str) -> tuple[ProcessLine, ...]:
        """The processes of a running container."""

    def path(self, container: str, path: str) -> PathInfo | None:
        """What is at an absolute path in the container, or None; it needn't run."""

    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """A file or folder as a tar, streamed, whose members start with the path's last part."""

    def copy_in(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar, streamed, in a folder that exists in the container."""


class Networks(Protocol):
    """The networks of an engine, and who is on them."""

    def networks(self, *, label: str | None = MANAGED) -> tuple[Network, ...]:
        """Those with the label, by name."""

    def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        internal: bool = False,
        subnet: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network, on which containers find each other by name; MANAGED is added.

        internal: without a way out.
        """

    def remove_network(self, network: str) -> None:
        """Remove a network; one with containers on it is refused, an absent one is an error."""

    def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        """Put a container on a network, where it is found by its name and these."""

    def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network."""


class Volumes(Protocol):
    """The volumes of an engine."""

    def volumes(self, *, label: str | None = MANAGED) -> tuple[NamedVolume, ...]:
        """Those with the label, by name."""

    def create_volume(self, name: str, *, labels: Mapping[str, str] | None = None) -> NamedVolume:
        """Make a volume; MANAGED is added. One that exists is an error."""

    def remove_volume(self, volume: str) -> None:
        """Remove a volume and its data; one in use is refused, an absent one is an error."""


class Engine(Images, Containers, Inside, Networks, Volumes, Protocol):
    """A container engine."""

    @property
    def info(self) -> EngineInfo:
        """Which engine it is."""
