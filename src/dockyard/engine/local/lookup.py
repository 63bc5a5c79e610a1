"""Read files of an image in its unpacked layers, and its users.

Rules: the highest layer that has a path wins, whiteouts hide what is below, symbolic links are
followed inside the image. Users are looked up in the image's own /etc/passwd and /etc/group.
"""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.engine import refusals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LINKS = 40  # As the kernel: more links on one way are a loop.
_LARGEST = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a container runs as; home "" where the image doesn't say."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""


def read_file(layers: Sequence[Path], path: str) -> str | None:
    """A text file of the image (layers bottom first), or None."""
    for _ in range(_LINKS):
        found = _find(layers, path)
        if found is None:
            return None
        place, rest = found
        mode = place.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = posixpath.join(
                posixpath.dirname(path.removesuffix(rest)), str(place.readlink())
            )
            path = posixpath.normpath("/" + target + rest)
            continue
        if rest or not stat.S_ISREG(mode) or place.stat().st_size > _LARGEST:
            return None
        return place.read_text(errors="replace")
    return None


def _find(layers: Sequence[Path], path: str) -> tuple[Path, str] | None:
    """The path's place, or that of the first link on the way and what follows it."""
    parts = [part for part in path.split("/") if part]
    for length in range(1, len(parts) + 1):
        name = "/".join(parts[:length])
        place = _topmost(layers, name)
        if place is None:
            return None
        if length == len(parts) or stat.S_ISLNK(place.lstat().st_mode):
            rest = "".join(f"/{part}" for part in parts[length:])
            return place, rest
    return None


def _topmost(layers: Sequence[Path], name: str) -> Path | None:
    for layer in reversed(layers):
        place = layer / name
        try:
            mode = place.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        return None if stat.S_ISCHR(mode) else place
    return None


def find_user(layers: Sequence[Path], text: str) -> User:
    """Who "10001", "10001:10001", "app" or "app:app" is; raises EngineError for nobody."""
    name, _, group = text.partition(":")
    name = name or "0"
    rows = _rows(layers, "/etc/passwd", 7)
    row = next((row for row in rows if name in (row[0], row[2])), None)
    if row is None and not name.isdigit():
        raise refusals.explain(f"unable to find user {name}: no matching entries in passwd file")
    uid = int(row[2]) if row else int(name)
    gid = int(row[3]) if row else 0
    groups = _rows(layers, "/etc/group", 4)
    if group:
        found = next((each for each in groups if group in (each[0], each[2])), None)
        if found is None and not group.isdigit():
            raise refusals.explain(f"unable to find user {text}: no matching entries in group file")
        return User(uid=uid, gid=int(found[2] if found else group), home=row[5] if row else "")
    others = tuple(int(each[2]) for each in groups if row and row[0] in each[3].split(","))
    return User(uid=uid, gid=gid, groups=others, home=row[5] if row else "")


def _rows(layers: Sequence[Path], path: str, fields: int) -> list[list[str]]:
    rows = [line.split(":") for line in (read_file(layers, path) or "").splitlines()]
    return [
        row
        for row in rows
        if len(row) == fields and all(row[i].isdigit() for i in (2, 3)[: fields - 3 or 1])
    ]
