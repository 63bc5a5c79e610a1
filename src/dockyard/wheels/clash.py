"""Two wheels, one path: when that is fine, and when it is an error.

Rules:
- Equal bytes are fine: the `__init__.py` of a namespace package, a licence.
- Different bytes are an error, because which one wins would depend on the order of layers: pip
  lets the last one installed win, silently. A file where another wheel has a folder is one, too.
- The user may let a distribution win (`prefer`). Then the loser's file is left out of its layer.
- Names that differ only in case are two files on Linux.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from packaging.utils import canonicalize_name

from dockyard.errors import FileTreeError, WheelError
from dockyard.files import DeflatedSource, SliceSource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from dockyard.files import FileEntry, Source
    from dockyard.wheels.install import InstalledWheel


class Claims(Protocol):
    """A distribution and the paths that it wants."""

    @property
    def name(self) -> str:
        """The distribution's normalized name."""

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileClaims:
    """What is known of a wheel whose bytes aren't here: the files that it has in the image."""

    name: str
    entries: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSource:
    """A file that is known by its size and SHA-256 alone."""

    size: int
    sha256: bytes

    def chunks(self) -> Iterator[bytes | memoryview]:
        """There are none to give."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Two distributions that can't both have `path`; the names are normalized.

    below: True where `first` has a file at `path` and `second` a file below it.
    """

    path: str
    first: str
    second: str
    below: bool = False

    def __str__(self) -> str:
        if self.below:
            return f"/{self.path} is a file of {self.first} and a folder of {self.second}"
        return f"/{self.path} differs between {self.first} and {self.second}"


def find_clashes(installed: Sequence[Claims], *, prefer: Collection[str] = ()) -> list[Clash]:
    """Return the clashes among `installed`, sorted by path, without those that `prefer` settles.

    A clash is settled when exactly one of its two sides is in `prefer` (names in any spelling).
    """
    winners = {canonicalize_name(name) for name in prefer}
    return [
        clash
        for clash in _all_clashes(installed)
        if (clash.first in winners) == (clash.second in winners)
    ]


def settle_clashes(
    installed: Sequence[InstalledWheel], *, prefer: Collection[str] = ()
) -> tuple[InstalledWheel, ...]:
    """Return `installed` without the files that lose; raises WheelError for what isn't settled.

    A wheel that loses nothing is returned as it is, so that its layer stays the shared one.
    """
    clashes = _all_clashes(installed)
    winners = {canonicalize_name(name) for name in prefer}
    lost: dict[str, set[str]] = {}
    folders: dict[str, set[str]] = {}
    left: list[Clash] = []
    for clash in clashes:
        if (clash.first in winners) == (clash.second in winners):
            left.append(clash)
        elif clash.first in winners and clash.below:
            folders.setdefault(clash.second, set()).add(clash.path)
        else:
            loser = clash.second if clash.first in winners else clash.first
            lost.setdefault(loser, set()).add(clash.path)
    if left:
        raise clash_error(left)
    return tuple(
        _without(wheel, lost.get(wheel.name, set()), folders.get(wheel.name, set()))
        for wheel in installed
    )


def clash_error(clashes: Sequence[Clash]) -> WheelError:
    """Return the error that names both wheels and the path, and how to let one win."""
    first = clashes[0]
    more = f" (and {len(clashes) - 1} more such files)" if len(clashes) > 1 else ""
    return WheelError(
        f"{first.first} and {first.second} can't both be installed: {first}{more}",
        where=f"/{first.path}",
        hint=f"Leave one of them out, or let one win: name {first.first} or {first.second}"
        " as preferred.",
    )


def merge_entries(installed: Iterable[InstalledWheel]) -> list[FileEntry]:
    """Return the entries of wheels that share a layer, each path once.

    The wheels must be settled: of two entries for a path the first is kept, executable if any is.
    """
    found: dict[str, FileEntry] = {}
    for wheel in installed:
        for entry in wheel.entries:
            other = found.setdefault(entry.path, entry)
            if entry.mode > other.mode:
                found[entry.path] = dataclasses.replace(other, mode=entry.mode)
    return list(found.values())


def _all_clashes(installed: Sequence[Claims]) -> list[Clash]:
    owners: dict[str, list[tuple[str, FileEntry]]] = {}
    for wheel in installed:
        for entry in wheel.entries:
            owners.setdefault(entry.path, []).append((wheel.name, entry))
    clashes = []
    for path, claims in owners.items():
        clashes += [
            Clash(path=path, first=first, second=second)
            for at, (first, entry) in enumerate(claims)
            for second, other in claims[at + 1 :]
            if not same_content(entry, other)
        ]
    blocked: set[Clash] = set()
    for path, claims in owners.items():
        folder = path.rpartition("/")[0]
        while folder:
            for first, _ in owners.get(folder, ()):
                blocked |= {
                    Clash(path=folder, first=first, second=second, below=True)
                    for second, _ in claims
                }
            folder = folder.rpartition("/")[0]
    return sorted(
        [*clashes, *blocked], key=lambda clash: (clash.path.split("/"), clash.first, clash.second)
    )


def same_content(one: FileEntry, other: FileEntry) -> bool:
    """Whether two entries are the same file; mode aside. Bytes are read only if need be."""
    if one.kind != other.kind or one.target != other.target or one.size != other.size:
        return False
    if one.source is None or other.source is None or one.size == 0:
        return one.source is other.source or one.size == 0
    known, theirs = _known_hash(one.source), _known_hash(other.source)
    if known is not None and theirs is not None:
        return known == theirs
    if (
        isinstance(one.source, DeflatedSource)
        and isinstance(other.source, DeflatedSource)
        and one.source.crc32 != other.source.crc32
    ):
        return False
    return content_hash(one.source) == content_hash(other.source)


def _known_hash(source: Source) -> bytes | None:
    if isinstance(source, DeflatedSource | SliceSource | ListedSource):
        return source.sha256
    return None


def content_hash(source: Source) -> bytes:
    """The SHA-256 of a file's bytes, which are read only if it isn't known; raises WheelError."""
    digest = _known_hash(source)
    if digest is not None:
        return digest
    found = hashlib.sha256()
    try:
        for chunk in source.chunks():
            found.update(chunk)
    except FileTreeError as error:
        raise WheelError(error.what, where=error.where, hint=error.hint) from error
    return found.digest()


def _without(wheel: InstalledWheel, paths: set[str], folders: set[str]) -> InstalledWheel:
    if not paths and not folders:
        return wheel
    below = tuple(f"{folder}/" for folder in folders)
    entries = tuple(
        entry
        for entry in wheel.entries
        if entry.path not in paths and not entry.path.startswith(below)
    )
    return dataclasses.replace(wheel, entries=entries)
