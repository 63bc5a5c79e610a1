"""pylock.toml (PEP 751): written for one or several platforms, read from any tool.

Rules:
- Writing is deterministic: packages by name and version, keys in the order of the PEP, nothing
  of the time or the machine. No credentials; files below the lock's folder by relative path.
- What Dockyard adds stands in [tool.dockyard]: what the lock was made from and for.
- Several platforms share one file: a package that only some of them have, or in another version,
  carries a marker on platform_machine.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import pathname2url

from dockyard.errors import ResolveError
from dockyard.fetch import local_path
from dockyard.wheels.credentials import without_credentials
from dockyard.wheels.lock import Lock
from dockyard.wheels.target import MACHINES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_HEADER = """\
# Written by Dockyard: the exact files that go into the image (PEP 751).
# To update it: dockyard lock            (keeps versions that still fit)
#               dockyard lock --upgrade  (takes the newest)
"""
_FILES = ("archive", "sdist")
_TOP = (
    "lock-version",
    "environments",
    "requires-python",
    "extras",
    "dependency-groups",
    "default-groups",
    "created-by",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """A pylock.toml that was read; document: its content, paths made absolute."""

    path: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def tool(self) -> Mapping[str, Any]:
        """The [tool.dockyard] table; empty for another tool's lock."""
        table = self.document.get("tool", {}).get("dockyard", {})
        return table if isinstance(table, dict) else {}

    @property
    def versions(self) -> dict[str, set[str]]:
        """Locked versions by package name."""
        found: dict[str, set[str]] = {}
        for package in self.document["packages"]:
            found.setdefault(package["name"], set()).add(str(package.get("version", "")))
        return found


def read_pylock(path: Path) -> LockFile:
    """Read and validate a pylock.toml; raises ResolveError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResolveError(
            "the lock can't be read", where=str(path), hint="Write it anew with `dockyard lock`."
        ) from error
    return LockFile(path=path, document=parse_document(text, path.parent, path.name))


def parse_document(text: str, folder: Path, where: str) -> dict[str, Any]:
    """Parse a lock whose relative paths start at `folder`; raises ResolveError."""
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    try:
        document = tomllib.loads(text)
        Pylock.from_dict(document)
    except tomllib.TOMLDecodeError as error:
        raise ResolveError(
            f"the lock is no valid TOML: {error}",
            where=where,
            hint="Write it anew with `dockyard lock`.",
        ) from error
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise ResolveError(
            f"the lock breaks its format (PEP 751): {error}",
            where=where,
            hint="Write it anew with `dockyard lock`.",
        ) from error
    packages = [_absolute(package, folder.absolute()) for package in document["packages"]]
    return {**document, "packages": packages}


def write_pylock(
    locks: Lock | Sequence[Lock], path: Path, *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write one lock file for these platforms, whole or not at all.

    extra: further keys of [tool.dockyard] (TOML values; None is left out). Raises ResolveError
    when the file can't be written.
    """
    found = [locks] if isinstance(locks, Lock) else list(locks)
    text = format_pylock(found, path.parent, extra=extra)
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise ResolveError(
            f"the lock can't be written: {error.strerror}",
            where=str(path),
            hint="Check the folder's permissions and free space.",
        ) from error


def format_pylock(
    locks: Sequence[Lock], folder: Path, *, extra: Mapping[str, Any] | None = None
) -> str:
    """Return the text of a lock file that will lie in `folder`."""
    locks = sorted(locks, key=lambda lock: lock.architecture)
    document = _merge(locks)
    own = {**locks[0].extra, **(extra or {})}
    own["inputs"] = locks[0].inputs
    own["platforms"] = [f"linux/{lock.architecture}" for lock in locks]
    own["python"] = locks[0].target.minor
    own["glibc"] = locks[0].glibc
    lines = [_HEADER]
    lines += [f"{key} = {_toml(document[key])}" for key in _TOP if key in document]
    if not document["packages"]:
        lines.append("packages = []")
    for package in document["packages"]:
        lines.append("\n[[packages]]")
        for key, value in _relative(package, folder.absolute()).items():
            lines.append(f"{key} = {_toml(value, wide=key == 'wheels')}")
    lines.append("\n[tool.dockyard]")
    lines += [f"{_key(key)} = {_toml(own[key])}" for key in sorted(own) if own[key] is not None]
    return without_credentials("\n".join(lines) + "\n")


def _merge(locks: Sequence[Lock]) -> dict[str, Any]:
    """One document for all platforms."""
    merged: dict[str, dict[str, Any]] = {}
    seen: dict[str, list[Lock]] = {}
    for lock in locks:
        left = {item.name for item in lock.from_base}
        for package in lock.document["packages"]:
            if package["name"] in left:
                continue  # the base has it, on this platform
            package = {k: v for k, v in package.items() if k not in ("dependencies", "tool")}
            rest = {k: v for k, v in package.items() if k not in ("wheels", "sdist", "marker")}
            key = json.dumps(rest, sort_keys=True, default=str)
            seen.setdefault(key, []).append(lock)
            if key not in merged:
                merged[key] = package
                continue
            files = {_name(wheel): wheel for wheel in merged[key].get("wheels", ())}
            files |= {_name(wheel): wheel for wheel in package.get("wheels", ())}
            if files:
                merged[key] = {**package, **merged[key], "wheels": list(files.values())}
    packages = []
    for key, package in merged.items():
        if len({lock.architecture for lock in seen[key]}) < len(locks):
            machines = " or ".join(
                f"platform_machine == '{MACHINES[lock.architecture]}'" for lock in seen[key]
            )
            marker = package.get("marker")
            package = {**package, "marker": f"({marker}) and ({machines})" if marker else machines}
        packages.append(package)
    packages.sort(key=lambda p: (p["name"], str(p.get("version", "")), p.get("marker", "")))
    minor = locks[0].target.minor
    return {
        "lock-version": "1.0",
        "environments": [
            f"sys_platform == 'linux' and platform_machine == '{MACHINES[lock.architecture]}'"
            for lock in locks
        ],
        "requires-python": f"=={minor}.*",
        **{
            key: value
            for key, value in locks[0].document.items()
            if key in ("extras", "dependency-groups", "default-groups")
        },
        "created-by": "dockyard",
        "packages": packages,
    }


def _name(wheel: Mapping[str, Any]) -> str:
    place: str = wheel.get("name") or wheel.get("path") or urlsplit(wheel["url"]).path
    return place.rpartition("/")[2]


def _absolute(package: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The package with absolute paths, without what only other tools need."""

    def mend(table: Mapping[str, Any]) -> dict[str, Any]:
        table = {key: value for key, value in table.items() if key != "upload-time"}
        if "path" in table:
            table["path"] = os.path.normpath(folder / table["path"])
        if "url" in table:
            table["url"] = without_credentials(table["url"])
        return table

    found = dict(package)
    for key in (*_FILES, "vcs", "directory"):
        if key in found:
            found[key] = mend(found[key])
    if "wheels" in found:
        found["wheels"] = [mend(wheel) for wheel in found["wheels"]]
    if "index" in found:
        found["index"] = without_credentials(found["index"])
    return found


def _relative(package: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The package as it is written: paths below the lock's folder are relative, sizes filled."""

    def mend(table: Mapping[str, Any], sized: bool) -> dict[str, Any]:
        table = dict(table)
        order = ("name", "url", "path", "editable", "size", "hashes")
        file = Path(table["path"]) if "path" in table else local_path(table.get("url", ""))
        if file is None:
            return dict(sorted(table.items(), key=lambda item: _rank(item[0], order)))
        if sized and "size" not in table and file.is_file():
            table["size"] = file.stat().st_size
        table.pop("url", None)
        if file.is_relative_to(folder):
            table["path"] = file.relative_to(folder).as_posix()
        elif not sized:
            table["path"] = os.path.relpath(file, folder)
        else:
            table.pop("path", None)
            table["url"] = "file://" + pathname2url(str(file))
        return dict(sorted(table.items(), key=lambda item: _rank(item[0], order)))

    found = dict(package)
    for key in _FILES:
        if key in found:
            found[key] = mend(found[key], True)
    if "directory" in found:
        found["directory"] = mend(found["directory"], False)
    if "wheels" in found:
        wheels = [mend(wheel, True) for wheel in found["wheels"]]
        found["wheels"] = sorted(wheels, key=_name)
    order = ("name", "version", "marker", "requires-python", "index")
    return dict(sorted(found.items(), key=lambda item: _rank(item[0], order)))


def _rank(key: str, order: Sequence[str]) -> tuple[int, str]:
    return (order.index(key) if key in order else len(order), key)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _toml(value: Any, *, wide: bool = False) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        inside = ", ".join(
            f"{_key(key)} = {_toml(item)}" for key, item in value.items() if item is not None
        )
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, (list, tuple)):
        items = [_toml(item) for item in value]
        if items and (wide or sum(map(len, items)) > 90):
            return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
        return f"[{', '.join(items)}]"
    return _string(str(value))


def preferences_text(lock_file: LockFile) -> str:
    """The lock's versions as a pylock.toml that uv takes as preferences."""
    lines = ['lock-version = "1.0"', 'created-by = "dockyard"']
    for package in lock_file.document["packages"]:
        if "version" not in package or not package.get("wheels"):
            continue
        lines.append("\n[[packages]]")
        for key in ("name", "version", "marker", "wheels"):
            if key in package:
                lines.append(f"{key} = {_toml(package[key], wide=key == 'wheels')}")
    return "\n".join(lines) + "\n"
