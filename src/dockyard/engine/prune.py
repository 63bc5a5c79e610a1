"""What nobody needs any more in an engine: found first, removed afterwards.

Rules: `find_unused` touches nothing. Stopped containers, networks and volumes on which no container
is, images that no container uses. By default only what Dockyard made; a volume that has a name is
somebody's data, so volumes go only when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dockyard.engine.spec import MANAGED
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockyard.engine.api import ContainerState, Engine, LocalImage, NamedVolume, Network

_ABOUT_TO_START = 3600.0  # Seconds.
_BUILT_IN = ("bridge", "host", "none", "podman", "ingress", "docker_gwbridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """What may go."""

    containers: tuple[ContainerState, ...] = ()
    networks: tuple[Network, ...] = ()
    volumes: tuple[NamedVolume, ...] = ()
    images: tuple[LocalImage, ...] = ()

    def __bool__(self) -> bool:
        return any((self.containers, self.networks, self.volumes, self.images))


def find_unused(
    engine: Engine, *, volumes: bool = False, images: bool = False, everything: bool = False
) -> Unused:
    """Look for what may go; everything: not only what Dockyard made.

    Images without a name go always, those with one only with `images`.
    """
    label = None if everything else MANAGED
    all_containers = engine.containers(label=None)
    ended = tuple(
        state
        for state in all_containers
        if _is_over(state) and (everything or MANAGED in state.labels)
    )
    gone = {state.id for state in ended}
    kept = [state for state in all_containers if state.id not in gone]
    on = {name for state in kept for name in state.networks}
    used = {mount.source for state in kept for mount in state.mounts}
    run = {state.image_id for state in kept} | {state.image for state in kept}
    return Unused(
        containers=ended,
        networks=tuple(
            network
            for network in engine.networks(label=label)
            if network.name not in on and network.name not in _BUILT_IN
        ),
        volumes=tuple(v for v in engine.volumes(label=label) if v.name not in used)
        if volumes
        else (),
        images=tuple(
            image
            for image in engine.images()
            if (everything or is_ours(image))
            and (images or not image.references)
            and not run & {image.id, image.id.removeprefix("sha256:"), *image.references}
        ),
    )


def _is_over(state: ContainerState) -> bool:
    """Whether it has ended, or was made so long ago that nobody is about to start it."""
    if state.status != "created":
        return state.status in ("exited", "dead")
    made = datetime.fromisoformat(state.created) if state.created else datetime.now(UTC)
    return (datetime.now(UTC) - made).total_seconds() > _ABOUT_TO_START


def is_ours(image: LocalImage) -> bool:
    """Whether Dockyard built the image."""
    return any(name.startswith("io.dockyard.") for name in image.labels)


def remove_unused(engine: Engine, unused: Unused, *, reporter: Reporter = SILENT) -> int:
    """Remove it; return how many failed, each of which is warned of."""
    failures = 0
    steps: list[tuple[Callable[[str], None], str, str]] = [
        *((engine.remove, state.id, state.name) for state in unused.containers),
        *((engine.remove_network, network.name, network.name) for network in unused.networks),
        *((engine.remove_volume, volume.name, volume.name) for volume in unused.volumes),
    ]
    for remove, number, name in steps:
        try:
            remove(number)
        except EngineError as error:
            failures += 1
            reporter.warn(f"{name} stays: {error.what}")
    for image in unused.images:
        try:
            for name in image.references or (image.id,):
                engine.remove_image(name)
        except EngineError as error:
            failures += 1
            reporter.warn(f"{next(iter(image.references), image.id[7:19])} stays: {error.what}")
    return failures
