"""Writing pylock.toml: the packages for every platform of the project, and the base.

Rules:
- What is written is what a build would take now; a build on another day then takes the same.
- The base's Debian packages are in it, each with its hash, because mirrors move on; of another
  image its digest, because tags do, and the packages that are left to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.build.foundation import DebianFoundation
from dockyard.errors import BuildError
from dockyard.oci.platform import Platform
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from dockyard.build.foundation import Foundation
    from dockyard.build.request import BuildRequest
    from dockyard.cache import Cache
    from dockyard.progress import Reporter
    from dockyard.wheels.lock import Lock

NAME = "pylock.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenLock:
    """A lock that was written."""

    path: Path
    packages: int
    platforms: str


def lock_project(
    request: BuildRequest, *, cache: Cache | None = None, reporter: Reporter = SILENT
) -> WrittenLock:
    """Resolve for every platform of the project and write pylock.toml into its folder."""
    from dockyard.build.inputs import platforms_of, resolve_for_lock
    from dockyard.build.workshop import open_workshop
    from dockyard.wheels.pylock import write_pylock
    from dockyard.wheels.stale import base_key

    locks: list[Lock] = []
    bases: dict[str, Any] = {}
    with open_workshop(request, cache, reporter) as shop:
        for platform in platforms_of(request):
            foundation, lock = resolve_for_lock(request, platform, shop=shop)
            locks.append(lock)
            bases[base_key(lock.target)] = _base_record(foundation, lock)
    if not any(lock.document for lock in locks):
        raise BuildError(
            "there is nothing to lock: the project names no dependencies",
            where=str(request.folder),
            hint="Name them in requirements.txt or pyproject.toml.",
        )
    path = request.folder.absolute() / NAME
    write_pylock(locks, path, extra={"base": bases})
    return WrittenLock(
        path=path,
        packages=len({wheel.name for lock in locks for wheel in lock.wheels}),
        platforms=", ".join(str(Platform("linux", lock.architecture)) for lock in locks),
    )


def _base_record(foundation: Foundation, lock: Lock) -> dict[str, Any]:
    """What the lock says of the base: Debian's packages, or the image and what is left to it."""
    if isinstance(foundation, DebianFoundation):
        return foundation.base.to_record()
    return {
        "image": foundation.name,
        "digest": str(foundation.image.digest),
        "provides": {item.name: item.version for item in lock.from_base},
    }


def check_lock(
    request: BuildRequest, *, cache: Cache | None = None, reporter: Reporter = SILENT
) -> None:
    """Raise BuildError, with the reasons, unless pylock.toml is there and current."""
    from dockyard.build.inputs import platforms_of, stale_lock_reasons
    from dockyard.build.workshop import open_workshop

    path = request.folder.absolute() / NAME
    if not path.exists():
        raise BuildError("there is no lock", where=str(path), hint="Make one: dockyard lock")
    with open_workshop(request, cache, reporter) as shop:
        for platform in platforms_of(request):
            reasons = stale_lock_reasons(request, platform, shop=shop)
            if reasons:
                raise BuildError(
                    f"{NAME} isn't current: {'; '.join(reasons)}",
                    where=str(path),
                    hint="Update it: dockyard lock",
                )
