"""Files on their way into an image: one entry per path, and where its bytes come from.

Rules:
- Paths are relative to the image's root, POSIX, without a leading slash: "opt/venv/bin/python".
- Modes are 0o644 or 0o755 (0o1777 for a directory like tmp) and owners 0, but where a Dockerfile
  says otherwise; mtime is the packer's affair and always the same.
- A source can be read more than once and always gives the same bytes; it never holds
  a large file in memory.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from dockyard.errors import FileTreeError
from dockyard.inflate import CHUNK, inflate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "CHUNK",
    "BytesSource",
    "DeflatedSource",
    "FileEntry",
    "Kind",
    "SliceSource",
    "Source",
    "check_path",
    "directory_entry",
    "file_entry",
    "symlink_entry",
    "with_parents",
]

Kind = Literal["file", "directory", "symlink"]


@runtime_checkable
class Source(Protocol):
    """Where a file's bytes come from."""

    @property
    def size(self) -> int:
        """Bytes in the file."""

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the file's bytes in order, `size` in all, in pieces of at most CHUNK."""


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes that are already in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self.data)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        view = memoryview(self.data)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]


@dataclass(frozen=True, slots=True)
class SliceSource:
    """`size` bytes of a file on disk, from `offset`: a whole file, or a stored zip entry.

    sha256, where known, is what the bytes must hash to; the packer checks it.
    """

    path: Path
    size: int
    offset: int = 0
    sha256: bytes | None = None

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes; raises FileTreeError when the file has become shorter."""
        left = self.size
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            while left:
                data = file.read(min(CHUNK, left))
                if not data:
                    raise FileTreeError(
                        "the file became shorter while it was read",
                        where=str(self.path),
                        hint="Build again when nothing writes to it.",
                    )
                left -= len(data)
                yield data


@dataclass(frozen=True, slots=True)
class DeflatedSource:
    """A file held as one raw DEFLATE stream (RFC 1951) inside an archive on disk.

    compressed_size bytes from offset inflate to size bytes whose CRC-32 is crc32; sha256, where
    known, is what they must hash to. A packer may copy the raw stream instead of compressing
    anew: see `dockyard.oci.layer`.
    """

    path: Path
    offset: int
    compressed_size: int
    size: int
    crc32: int
    sha256: bytes | None = None

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the inflated bytes; raises FileTreeError when size or CRC-32 don't match."""
        return inflate(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One path of an image's file system."""

    path: str
    kind: Kind = "file"
    mode: int = 0o644
    source: Source | None = None
    target: str = ""
    uid: int = 0
    gid: int = 0

    @property
    def size(self) -> int:
        """Bytes of content; 0 for directories and symbolic links."""
        return self.source.size if self.source is not None else 0


def file_entry(path: str, data: bytes | Source, *, executable: bool = False) -> FileEntry:
    """Make an entry for a regular file."""
    source = BytesSource(data) if isinstance(data, bytes) else data
    return FileEntry(path=path, mode=0o755 if executable else 0o644, source=source)


def directory_entry(path: str, *, mode: int = 0o755) -> FileEntry:
    """Make an entry for a directory."""
    return FileEntry(path=path, kind="directory", mode=mode)


def symlink_entry(path: str, target: str) -> FileEntry:
    """Make an entry for a symbolic link; target is as `readlink` would print it."""
    return FileEntry(path=path, kind="symlink", mode=0o777, target=target)


def check_path(path: str, *, where: str) -> str:
    """Return `path` if it is safe inside an image, or raise FileTreeError naming `where`.

    Refused: absolute paths, "..", ".", empty components, NUL, backslashes, and the names that
    the layer format reserves (".wh." prefix, image-spec layer.md "Whiteouts").
    """
    reason = None
    if not path or path.startswith("/"):
        reason = "is absolute or empty"
    elif "\0" in path or "\\" in path or "\n" in path:
        reason = "holds a character that no file name may hold in an image"
    else:
        for part in path.split("/"):
            if part == "..":
                reason = "climbs out of its folder"
            elif part in ("", "."):
                reason = "has an empty component"
            elif part.startswith(".wh."):
                reason = "uses the name that layers reserve for deletions"
            if reason:
                break
    if reason is None:
        return path
    raise FileTreeError(
        f"the path {path!r} {reason}", where=where, hint="The archive is unsafe and isn't used."
    )


def with_parents(entries: Iterable[FileEntry]) -> list[FileEntry]:
    """Return the entries sorted by path, each parent directory present once.

    Two entries for one path are an error here (FileTreeError): resolve clashes before. Directories
    may repeat if their modes are equal. Sorting is by the path's components, so that a
    directory's entries follow it.
    """
    found: dict[str, FileEntry] = {}
    for entry in entries:
        other = found.get(entry.path)
        if other is None:
            found[entry.path] = entry
        elif not (other.kind == entry.kind == "directory" and other.mode == entry.mode):
            raise FileTreeError(f"two entries claim the path {entry.path!r}")
    for path in list(found):
        if path.startswith("/"):
            raise FileTreeError(f"the path {path!r} isn't relative to the image's root")
        parent = posixpath.dirname(path)
        while parent:
            above = found.get(parent)
            if above is None:
                found[parent] = directory_entry(parent)
            elif above.kind != "directory":
                raise FileTreeError(f"{path!r} lies below {parent!r}, which is no directory")
            parent = posixpath.dirname(parent)
    return [found[path] for path in sorted(found, key=lambda path: path.split("/"))]
