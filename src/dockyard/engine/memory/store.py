"""What the engine in memory keeps: images, containers, networks and volumes, behind one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from errno import EROFS
from typing import TYPE_CHECKING, Literal

from dockyard.engine import refusals
from dockyard.engine.state import EngineInfo, LocalImage, LogChunk, NamedVolume, Network

if TYPE_CHECKING:
    import socket

    from dockyard.engine.memory.process import Program
    from dockyard.engine.spec import ContainerSpec, Port, Volume


class Files(MutableMapping[str, bytes]):
    """A container's files by absolute path: its own, and those of what is mounted in it."""

    def __init__(self, *, read_only: bool = False) -> None:
        self._own: dict[str, bytes] = {}
        self._read_only = read_only
        self._mounts: dict[str, tuple[dict[str, bytes], bool]] = {}

    def mount(self, target: str, content: dict[str, bytes], *, read_only: bool = False) -> None:
        """Show other files, whose paths start with "/", at a path."""
        self._mounts[target] = (content, read_only)

    def put(self, path: str, data: bytes) -> None:
        """Write where the program itself may not."""
        content, _, inner = self._place(path)
        content[inner] = data

    def __getitem__(self, path: str) -> bytes:
        content, _, inner = self._place(path)
        return content[inner]

    def __setitem__(self, path: str, data: bytes) -> None:
        content, read_only, inner = self._place(path)
        if read_only:
            raise OSError(EROFS, "Read-only file system", path)
        content[inner] = data

    def __delitem__(self, path: str) -> None:
        content, _, inner = self._place(path)
        del content[inner]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for target, (content, _) in self._mounts.items():
            yield from (target + inner for inner in content)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _place(self, path: str) -> tuple[dict[str, bytes], bool, str]:
        for target in sorted(self._mounts, key=len, reverse=True):
            if path.startswith(f"{target}/"):
                content, read_only = self._mounts[target]
                return content, read_only, path[len(target) :]
        return self._own, self._read_only, path


@dataclass
class Container:
    """A container; output: with the Unix time of each piece; talkers: inputs of its program."""

    id: str
    name: str
    spec: ContainerSpec
    image: LocalImage
    files: Files
    mounts: tuple[Volume, ...] = ()
    status: Literal["created", "running", "exited"] = "created"
    exit_code: int | None = None
    health: Literal["none", "starting", "healthy", "unhealthy"] = "none"
    oom_killed: bool = False
    started: float = 0.0
    times: dict[str, str] = field(default_factory=dict)
    restarts: int = 0
    stopping: bool = False
    output: list[tuple[float, LogChunk]] = field(default_factory=list)
    input: list[bytes | None] = field(default_factory=list)
    ports: tuple[Port, ...] = ()
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)
    guests: int = 0


class Store:
    """The state that an engine's parts share."""

    def __init__(
        self,
        programs: Mapping[str, Program] | None = None,
        *,
        architecture: str = "amd64",
        partial_loads: bool = True,
    ) -> None:
        self._programs = dict(programs or {})
        self._info = EngineInfo(
            kind="memory",
            version="1",
            architecture=architecture,
            partial_loads=partial_loads,
            cpus=2,
            log_driver="json-file",
        )
        self._images: dict[str, LocalImage] = {}
        self._sizes: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._containers: dict[str, Container] = {}
        self._networks: dict[str, Network] = {
            name: Network(id=name, name=name, driver=name) for name in ("bridge", "host", "none")
        }
        # Network name to the containers' ids, each with its address and its names there.
        self._members: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
            name: {} for name in self._networks
        }
        self._addresses = 1
        self._volumes: dict[str, NamedVolume] = {}
        self._contents: dict[str, dict[str, bytes]] = {}
        self._changed = threading.Condition(threading.RLock())

    @property
    def info(self) -> EngineInfo:
        """Which engine it is."""
        return self._info

    def image(self, reference: str) -> LocalImage | None:
        """The image with this name or id, or None."""
        with self._changed:
            number = self._names.get(tagged(reference), reference)
            image = self._images.get(number) or self._images.get(f"sha256:{number}")
            if image is None:
                return None
            names = sorted(name for name, owner in self._names.items() if owner == image.id)
            return replace(image, references=tuple(names))

    def follow(self, container: Container, position: int) -> Iterator[LogChunk]:
        """What it writes from a position on, until it ends."""
        while True:
            with self._changed:
                if len(container.output) == position and container.status != "exited":
                    self._changed.wait(0.2)
                chunks = [chunk for _, chunk in container.output[position:]]
                # Attached before its start, and then removed without one.
                unstarted = container.status == "created" and container.id not in self._containers
                over = container.status == "exited" or unstarted
            yield from chunks
            position += len(chunks)
            if over and not chunks:
                return

    def find_container(self, container: str) -> Container | None:
        """The container of this id or name, or None."""
        for found in self._containers.values():
            if container in (found.id, found.name) or (
                len(container) >= 12 and found.id.startswith(container)
            ):
                return found
        return None

    def need_container(self, container: str) -> Container:
        """The container of this id or name."""
        found = self.find_container(container)
        if found is None:
            raise refusals.explain(refusals.NO_CONTAINER.format(container), where=container)
        return found

    def need_running(self, container: str) -> Container:
        """The running container of this id or name."""
        found = self.need_container(container)
        if found.status != "running":
            raise refusals.explain(refusals.NOT_RUNNING.format(container), where=container)
        return found

    def need_image(self, reference: str) -> LocalImage:
        """The image of this id or name."""
        image = self.image(reference)
        if image is None:
            raise refusals.explain(refusals.NO_IMAGE.format(reference), where=reference)
        return image

    def join(self, network: str, container: Container, aliases: tuple[str, ...] = ()) -> None:
        """Put a container on a network."""
        if network not in self._networks:
            raise refusals.explain(refusals.NO_NETWORK.format(network), where=container.name)
        self._addresses += 1
        address = f"10.0.{self._addresses >> 8}.{self._addresses & 255}"
        self._members[network][container.id] = (address, (container.name, *aliases))

    def find_host(self, container: Container, name: str) -> str | None:
        """The address of a container's neighbour; names are known on networks one made."""
        for network, members in self._members.items():
            if container.id in members and network not in ("bridge", "host", "none"):
                for number, (address, names) in members.items():
                    running = self._containers[number].status == "running"
                    if name in names and running:
                        return address
        return None


def tagged(reference: str) -> str:
    """An image's name with its tag."""
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"
