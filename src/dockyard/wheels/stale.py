"""Whether a lock file still says what the project asks for.

Rules:
- Dockyard's own lock carries the hash of its inputs; another tool's is checked requirement by
  requirement: the name must be locked, at a version that fits.
- Every reason is one sentence that a user can act on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from dockyard.wheels.requirement import (
    DependencySource,
    Requirements,
    SourceKind,
    read_source,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.wheels.pylock import LockFile
    from dockyard.wheels.resolve import ResolveRequest
    from dockyard.wheels.target import Target


def loose_source(lock_file: LockFile, root: Path) -> DependencySource | None:
    """The source that a lock was made from, or would have been: the one beside it."""
    named = lock_file.tool.get("source")
    if isinstance(named, str) and (found := _source(root / named)) is not None:
        return found
    beside = lock_file.path.parent
    for name in ("pyproject.toml", "requirements.txt", "environment.yml"):
        path = beside / name
        if not path.is_file() or (name == "pyproject.toml" and not _has_project(path)):
            continue
        return _source(path)
    return None


def stale_reasons(lock_file: LockFile, request: ResolveRequest) -> list[str]:
    """Why `lock_file` isn't what `request`, with its loose source, asks for; empty: it is.

    Raises ResolveError when the loose source can't be read.
    """
    from dockyard.wheels.resolve import input_hash

    requirements = read_source(request.source, extras=request.extras, groups=request.groups)
    target = request.target
    reasons = []
    tool = lock_file.tool
    if tool:
        made_for = str(tool.get("python", target.minor))
        if made_for != target.minor:
            reasons.append(f"it was made for Python {made_for}, the image has {target.minor}")
        platforms = tool.get("platforms", [])
        if platforms and f"linux/{target.architecture}" not in platforms:
            reasons.append(f"it has nothing for linux/{target.architecture}")
        glibc = str(tool.get("glibc", target.glibc))
        if _number(glibc) > _number(target.glibc):
            reasons.append(f"it was made for glibc {glibc}, the base has {target.glibc}")
        for key, wanted in (("extras", request.extras), ("groups", request.groups)):
            if sorted(tool.get(key) or ()) != sorted(wanted):
                reasons.append(f"it was made with other {key}")
        if tool.get("accelerator", request.accelerator) != request.accelerator:
            reasons.append(
                f'it was made for accelerator = "{tool["accelerator"]}", '
                f'now it is "{request.accelerator}"'
            )
    reasons += _base_reasons(tool, request)
    versions = {item.name: {item.version} for item in request.provided}
    unmet = unmet_requirements(requirements, {**versions, **lock_file.versions}, target)
    reasons += unmet
    if not reasons and "inputs" in tool and tool["inputs"] != input_hash(request, requirements):
        reasons.append(f"{request.source.path.name} has changed since")
    return reasons


def _base_reasons(tool: Mapping[str, Any], request: ResolveRequest) -> list[str]:
    """What the lock leaves to the base, and this base doesn't have."""
    bases = tool.get("base")
    key = base_key(request.target)
    record = bases.get(key) if isinstance(bases, dict) else None
    counted_on = record.get("provides") if isinstance(record, dict) else None
    have = {item.name: item.version for item in request.provided}
    return [
        f"it leaves {name} {version} to the base, which has {have.get(name, 'none')}"
        for name, version in (counted_on or {}).items()
        if have.get(name) != version
    ]


def base_key(target: Target) -> str:
    """Under what a lock names the base for this platform and Python."""
    return f"{target.architecture}-python{target.minor}"


def unmet_requirements(
    requirements: Requirements, versions: Mapping[str, set[str]], target: Target
) -> list[str]:
    """The requirements that these locked versions don't meet, one sentence each."""
    reasons = []
    environment = cast("dict[str, str]", target.environment())
    for line in requirements.lines:
        asked = line.requirement
        if asked is None or line.name is None:
            continue
        if asked.marker is not None and not asked.marker.evaluate({**environment, "extra": ""}):
            continue
        locked = versions.get(line.name)
        if locked is None:
            reasons.append(f"{line.name} ({line.where}) isn't in it")
        elif asked.specifier and not any(
            version and asked.specifier.contains(version, prereleases=True) for version in locked
        ):
            have = ", ".join(sorted(locked)) or "no version"
            reasons.append(f"{line.where} asks for {asked.name}{asked.specifier}, it has {have}")
    return reasons


def _source(path: Path) -> DependencySource | None:
    name = "environment.yml" if path.name == "environment.yaml" else path.name
    if not path.is_file():
        return None
    if name not in get_args(SourceKind):
        name = "requirements.txt"
    return DependencySource(kind=cast("SourceKind", name), path=path)


def _has_project(path: Path) -> bool:
    return any(line.strip() == "[project]" for line in path.read_text("utf-8").splitlines())


def _number(glibc: str) -> int:
    minor = glibc.partition(".")[2]
    return int(minor) if minor.isdigit() else 0
