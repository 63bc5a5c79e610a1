"""What `trim` saves, or would: counted in the wheels that are on disk.

Rules: nothing is fetched for it. A wheel's answer is kept in the cache, since neither the wheel
nor the table of what may go changes under its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.build.store import layer_key
from dockyard.wheels.install import Venv, install_wheel
from dockyard.wheels.trim import TRIM_VERSION, trimmable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.wheels.lock import LockedWheel

_RECORD = "trim-savings"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimSavings:
    """What trimming leaves out of an image.

    on: whether this image is trimmed; saves: unpacked bytes by package, the most first; unknown:
    packages that trimming knows and whose wheels aren't fetched yet.
    """

    on: bool
    saves: Mapping[str, int]
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        return {"on": self.on, "saves": dict(self.saves), "unknown": list(self.unknown)}


def trim_savings(
    wheels: Sequence[LockedWheel],
    paths: Mapping[str, Path],
    *,
    on: bool,
    python: str,
    cache: Cache,
) -> TrimSavings:
    """Count what trimming takes from the wheels; `paths`: those on disk, by SHA-256."""
    saves: dict[str, int] = {}
    unknown: list[str] = []
    for wheel in wheels:
        if not trimmable(wheel.name):
            continue
        path = paths.get(wheel.sha256)
        if path is None:
            unknown.append(wheel.name)
        elif saved := _saved(wheel, path, python, cache):
            saves[wheel.name] = saved
    ordered = sorted(saves.items(), key=lambda item: (-item[1], item[0]))
    return TrimSavings(on=on, saves=dict(ordered), unknown=tuple(unknown))


def _saved(wheel: LockedWheel, path: Path, python: str, cache: Cache) -> int:
    key = layer_key(_RECORD, wheel=wheel.sha256, table=TRIM_VERSION)
    known = cache.read_record(_RECORD, key)
    if known is None:
        installed = install_wheel(
            path,
            Venv(python=python),
            requested=True,
            trim=True,
            filename=wheel.filename,
            sha256=wheel.sha256,
        )
        known = installed.trimmed_bytes
        cache.write_record(_RECORD, key, known)
    return int(known)
