"""What an image will be made of, decided before any byte is fetched or packed.

Rules:
- Nothing here touches disk or network: a plan can be printed, compared and tested.
- Order is from the most to the least stable, so that images share as long a chain as they can:
  base, Debian packages, wheels of SOLO_SIZE and more (each alone, the largest first, then by
  name), the small wheels together, Dockyard's server, bytecode, model files, application code.
- Small wheels that come to GROUPED_SIZE beside large ones are divided into GROUPS layers by their
  names, and the bytecode into that of large and of small wheels: a small dependency that changes
  then changes, and moves, a few megabytes.
- An image has at most MAX_LAYERS layers with its base; past that the smallest solo wheels join
  the small ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.files import FileEntry
    from dockyard.oci.config import ImageConfig
    from dockyard.oci.platform import Platform
    from dockyard.wheels.lock import LockedWheel

SOLO_SIZE = 5_000_000
GROUPED_SIZE = 6_000_000
GROUPS = 6
MAX_LAYERS = 60

Compiles = Literal["all", "large", "small"]
LayerKind = Literal[
    "base", "apt", "python", "wheel", "wheels", "server", "bytecode", "model", "app"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One choice and its reason, as the plan prints it."""

    subject: str
    value: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """One layer to be: what goes in, where it comes from and why it is a layer of its own.

    size: bytes to be stored, as far as known before packing (a spliced layer is about as large
    as its wheels); None when unknown. created_by: the image history's line, which `inspect` and
    `diff` read back. compiles: whose modules a bytecode layer has, by the wheels' layers.
    """

    kind: LayerKind
    title: str
    origin: str
    why: str
    created_by: str
    size: int | None = None
    wheels: tuple[LockedWheel, ...] = ()
    entries: tuple[FileEntry, ...] = ()
    compiles: Compiles = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """One platform's image before it is made."""

    references: tuple[str, ...]
    platform: Platform
    python: str
    layers: tuple[PlannedLayer, ...]
    config: ImageConfig
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()


def plan_wheel_layers(
    wheels: Sequence[LockedWheel], *, other_layers: int
) -> tuple[PlannedLayer, ...]:
    """Split wheels into layers: the large ones alone, the small ones together.

    other_layers: how many layers the image has besides these. A wheel of unknown size counts as
    small.
    """
    solo = sorted(
        (wheel for wheel in wheels if (wheel.size or 0) >= SOLO_SIZE),
        key=lambda wheel: (-(wheel.size or 0), wheel.name),
    )
    small = [wheel for wheel in wheels if (wheel.size or 0) < SOLO_SIZE]
    grouped = is_grouped(wheels)
    room = max(0, MAX_LAYERS - other_layers - (GROUPS if grouped else 1))
    merged = len(solo) > room
    small += solo[room:]
    layers = [
        PlannedLayer(
            kind="wheel",
            title=f"{wheel.name} {wheel.version}",
            origin=wheel.filename,
            why="large enough to be shared alone",
            created_by=f"dockyard wheel {wheel.name}=={wheel.version} sha256:{wheel.sha256}",
            size=wheel.size,
            wheels=(wheel,),
        )
        for wheel in solo[:room]
    ]
    small.sort(key=lambda wheel: wheel.name)
    groups = [small]
    if grouped:
        groups = [[w for w in small if _group(w.name) == number] for number in range(GROUPS)]
    why = "some of the smaller wheels" if grouped else "the smaller wheels together"
    why += f", to stay within {MAX_LAYERS} layers" if merged else ""
    layers += [_together(group, why) for group in groups if group]
    return tuple(layers)


def _together(wheels: Sequence[LockedWheel], why: str) -> PlannedLayer:
    names = " ".join(f"{wheel.name}=={wheel.version}" for wheel in wheels)
    return PlannedLayer(
        kind="wheels",
        title=f"{len(wheels)} small wheels" if len(wheels) > 1 else names,
        origin=", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels),
        why=why,
        created_by=f"dockyard wheels {names}",
        size=sum(wheel.size or 0 for wheel in wheels),
        wheels=tuple(wheels),
    )


def is_grouped(wheels: Sequence[LockedWheel]) -> bool:
    """Whether the small wheels are divided: there are many, and large ones beside them."""
    small = [wheel.size or 0 for wheel in wheels if (wheel.size or 0) < SOLO_SIZE]
    return sum(small) >= GROUPED_SIZE and len(small) < len(wheels)


def _group(name: str) -> int:
    """A wheel's group, which depends on its name alone, so that another version is in the same."""
    return hashlib.sha256(name.encode()).digest()[0] % GROUPS


def cuda_environment(wheels: Sequence[LockedWheel]) -> dict[str, str]:
    """The variables that a GPU image needs, from its wheels; empty for a CPU image.

    NVIDIA_REQUIRE_CUDA is read from the CUDA runtime wheel that was resolved (its version is
    CUDA's own), so there is no table that goes stale. LD_LIBRARY_PATH is never set: wheels find
    their libraries by RPATH.
    """
    runtime = next(
        (wheel for wheel in wheels if wheel.name.startswith("nvidia-cuda-runtime")), None
    )
    if runtime is None and not any(wheel.name.startswith("nvidia-") for wheel in wheels):
        return {}
    env = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    if runtime is not None:
        major, minor = [*runtime.version.split("."), "0"][:2]
        env["NVIDIA_REQUIRE_CUDA"] = f"cuda>={major}.{minor}"
    return env
