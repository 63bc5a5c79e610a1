"""The zip directory of a wheel, parsed into members whose raw streams can be copied.

Rules (PKWARE APPNOTE 6.3.10; section numbers in the code are its):
- The archive is one whole file: nothing before the first entry counts, the central directory ends
  where its end record begins, and the end record's comment ends the file. `zipfile` forgives
  all three, cuts names at a NUL, lets a later duplicate hide an earlier one, and changes such
  details from Python to Python; it also doesn't tell where a stream begins. So the directory is
  read here: one pass over its bytes and one small read for each local header (12,248 entries
  of a torch wheel in about 0.1 s).
- A member's local header must say what the directory says: two readers must never see two archives.
- What isn't a plain file or directory, isn't stored or deflated, is encrypted, overlaps another
  entry, repeats a name or can't be as large as it claims makes the whole wheel unusable.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dockyard.errors import FileTreeError, WheelError
from dockyard.files import BytesSource, DeflatedSource, SliceSource, check_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dockyard.files import Source

STORED: Final = 0
DEFLATED: Final = 8

_METHODS = {
    1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 20: "zstd (old number)",
    93: "zstd", 95: "XZ", 98: "PPMd", 99: "AES encryption",
}  # fmt: skip

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_SMALL = 0xFFFF
_LARGE = 0xFFFFFFFF

# DEFLATE can't do better than 258 bytes for two bits (RFC 1951); zlib's own limit is 1032:1.
_MOST_RATIO = 1032
# A wheel that unpacks to more than this, at more than this ratio on the whole, is a bomb: among the
# wheels of bench/wheels.txt no ratio is above 10.
_BOMB_SIZE = 1 << 30
_BOMB_RATIO = 100
_TEXT_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a wheel.

    offset: where the raw stream begins in the file; mode: `st_mode` as the archiver saw it, 0
    where the archive holds none.
    """

    name: str
    method: int
    offset: int
    compressed_size: int
    size: int
    crc32: int
    mode: int

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory; zip marks one by a final slash (4.3.8)."""
        return self.name.endswith("/")

    @property
    def executable(self) -> bool:
        """Whether an installer sets the executable bits: a regular file, any of its x bits set."""
        return stat.S_ISREG(self.mode) and bool(self.mode & 0o111)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """A wheel on disk, its directory read and checked; its members are in directory order."""

    path: Path
    filename: str
    sha256: str | None
    size: int
    members: tuple[Member, ...]

    def source(self, member: Member, *, sha256: bytes | None = None) -> Source:
        """Return where the member's bytes come from; sha256 is checked by who reads them all."""
        if member.size == 0:
            return BytesSource(b"")
        if member.method == STORED:
            return SliceSource(self.path, member.size, member.offset, sha256)
        return DeflatedSource(
            self.path, member.offset, member.compressed_size, member.size, member.crc32, sha256
        )

    def chunks(self, member: Member) -> Iterator[bytes | memoryview]:
        """Yield the member's bytes; raises WheelError when they don't have their CRC-32."""
        crc = 0
        try:
            for chunk in self.source(member).chunks():
                crc = zlib.crc32(chunk, crc)
                yield chunk
        except FileTreeError as error:
            raise WheelError(
                f"{member.name!r}: {error.what}", where=self.filename, hint=error.hint
            ) from error
        if crc != member.crc32:
            raise _damaged(self.filename, f"{member.name!r} doesn't have its declared CRC-32")

    def read(self, member: Member, *, limit: int = _TEXT_LIMIT) -> bytes:
        """Return all bytes of a small member; raises WheelError when it is damaged or too large."""
        if member.size > limit:
            raise _unsafe(self.filename, f"{member.name!r} is {member.size} bytes long")
        return b"".join(self.chunks(member))


def read_wheel(path: Path, *, filename: str | None = None, sha256: str | None = None) -> WheelFile:
    """Read and check the zip directory of the wheel at `path`.

    filename: the wheel's own name, where the file is kept under another one; sha256: the hash it is
    known to have (carried along, not computed). Raises WheelError.
    """
    name = filename or path.name
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            members = _read_members(file.fileno(), size, name)
    except OSError as error:
        raise WheelError(
            f"the wheel can't be read: {error.strerror}", where=str(path), hint="Fetch it again."
        ) from error
    return WheelFile(path=path, filename=name, sha256=sha256, size=size, members=members)


@dataclass(frozen=True, slots=True)
class _Header:
    """A central directory header (4.3.12)."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc32: int
    compressed_size: int
    size: int
    mode: int
    offset: int


def _read_members(fd: int, file_size: int, wheel: str) -> tuple[Member, ...]:
    start, size, count = _find_directory(fd, file_size, wheel)
    directory = _read(fd, size, start, wheel)
    headers = _parse_directory(directory, count, wheel)
    _check_names(headers, wheel)
    _check_sizes(headers, file_size, wheel)
    offsets: dict[str, int] = {}
    end, last = 0, ""
    for header in sorted(headers, key=lambda header: header.offset):
        if header.offset < end:
            raise _unsafe(wheel, f"{header.name!r} overlaps {last!r}")
        offsets[header.name] = _stream_offset(fd, header, wheel)
        end, last = offsets[header.name] + header.compressed_size, header.name
    if end > start:
        raise _unsafe(wheel, f"{last!r} overlaps the zip directory")
    return tuple(
        Member(
            name=header.name,
            method=header.method,
            offset=offsets[header.name],
            compressed_size=header.compressed_size,
            size=header.size,
            crc32=header.crc32,
            mode=header.mode,
        )
        for header in headers
    )


def _find_directory(fd: int, file_size: int, wheel: str) -> tuple[int, int, int]:
    """Return offset and size of the central directory and its number of entries (4.3.16)."""
    tail_start = max(0, file_size - _END.size - _SMALL)
    tail = _read(fd, file_size - tail_start, tail_start, wheel)
    at = len(tail)
    while True:
        at = tail.rfind(b"PK\5\6", 0, at)
        if at < 0:
            raise _damaged(wheel, "the file is no zip archive, or its end is missing")
        if at + _END.size <= len(tail):
            fields = _END.unpack_from(tail, at)
            if at + _END.size + fields[7] == len(tail):
                break
    _, disk, first_disk, here, count, size, start, _ = fields
    end = tail_start + at
    locator_at = end - _LOCATOR64.size
    if locator_at >= 0:
        locator = _read(fd, _LOCATOR64.size, locator_at, wheel)
        if locator[:4] == b"PK\6\7":
            return _find_directory64(fd, locator, locator_at, (count, size, start), wheel)
    if disk or first_disk or here != count:
        raise _unsafe(wheel, "the archive is one part of several")
    if start + size != end:
        raise _damaged(wheel, "the zip directory isn't where the end of the file says")
    return start, size, count


def _find_directory64(
    fd: int, locator: bytes, locator_at: int, small: tuple[int, int, int], wheel: str
) -> tuple[int, int, int]:
    """As `_find_directory`, from the zip64 records (4.3.14, 4.3.15)."""
    _, end_disk, end_at, disks = _LOCATOR64.unpack(locator)
    if end_at + _END64.size > locator_at:
        raise _damaged(wheel, "the zip64 end record isn't where its locator says")
    fields = _END64.unpack(_read(fd, _END64.size, end_at, wheel))
    signature, record_size, _, _, disk, first_disk, here, count, size, start = fields
    if signature != b"PK\6\6" or end_at + 12 + record_size != locator_at:
        raise _damaged(wheel, "the zip64 end record isn't where its locator says")
    if disk or first_disk or end_disk or disks > 1 or here != count:
        raise _unsafe(wheel, "the archive is one part of several")
    limits = (_SMALL, _LARGE, _LARGE)
    for short, long, unset in zip(small, (count, size, start), limits, strict=True):
        if short not in (long, unset):
            raise _unsafe(wheel, "its two end records disagree")
    if start + size != end_at:
        raise _damaged(wheel, "the zip directory isn't where the end of the file says")
    return start, size, count


def _parse_directory(directory: bytes, count: int, wheel: str) -> list[_Header]:
    headers = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise _damaged(wheel, "the zip directory ends early")
        fields = _CENTRAL.unpack_from(directory, at)
        signature, _, _, flags, method, _, _, crc32, compressed_size, size = fields[:10]
        name_size, extra_size, comment_size, disk, _, attributes, offset = fields[10:]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_size
        at = extra_at + extra_size + comment_size
        if signature != b"PK\1\2" or at > len(directory):
            raise _damaged(wheel, "the zip directory is damaged")
        raw_name = directory[name_at:extra_at]
        try:
            # 4.4.4, bit 11: UTF-8; else the code page of the first PCs (appendix D)
            name = raw_name.decode("utf-8" if flags & 0x800 else "cp437")
        except UnicodeDecodeError:
            raise _damaged(wheel, f"the file name {raw_name!r} is not UTF-8") from None
        extra = directory[extra_at : extra_at + extra_size]
        size, compressed_size, offset, disk = _zip64_values(
            extra, (size, compressed_size, offset, disk), name, wheel
        )
        if disk:
            raise _unsafe(wheel, f"{name!r} lies in another part of the archive")
        headers.append(
            _Header(
                raw_name, name, flags, method, crc32, compressed_size, size,
                attributes >> 16, offset,
            )
        )  # fmt: skip
        _check_header(headers[-1], wheel)
    if at != len(directory):
        raise _damaged(wheel, "the zip directory holds more than its entries")
    return headers


def _zip64_values(
    extra: bytes, values: tuple[int, int, int, int], name: str, wheel: str
) -> tuple[int, int, int, int]:
    """Return size, compressed size, offset and disk, from field 1 where they overflow (4.5.3)."""
    unset = (_LARGE, _LARGE, _LARGE, _SMALL)
    if not any(value == limit for value, limit in zip(values, unset, strict=True)):
        return values
    field = _extra_field(extra, 1)
    found = []
    for value, limit, width in zip(values, unset, (8, 8, 8, 4), strict=True):
        if value != limit:
            found.append(value)
            continue
        if len(field) < width:
            raise _damaged(wheel, f"{name!r} lacks its zip64 sizes")
        found.append(int.from_bytes(field[:width], "little"))
        field = field[width:]
    return found[0], found[1], found[2], found[3]


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _check_header(header: _Header, wheel: str) -> None:
    name = header.name
    if header.flags & 0x2041:  # 4.4.4: encrypted, strongly encrypted, masked
        raise _unsafe(wheel, f"{name!r} is encrypted")
    if header.method not in (STORED, DEFLATED):
        method = _METHODS.get(header.method, f"method {header.method}")
        raise WheelError(
            f"{name!r} is compressed with {method}; a wheel's files are stored or deflated",
            where=wheel,
            hint="Ask its maintainers for a wheel that every installer can read.",
        )
    kind = stat.S_IFMT(header.mode)
    if kind == stat.S_IFLNK:
        raise _unsafe(wheel, f"{name!r} is a symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unsafe(wheel, f"{name!r} is a device, pipe or socket")
    if (kind == stat.S_IFDIR and not name.endswith("/")) or (
        kind == stat.S_IFREG and name.endswith("/")
    ):
        raise _unsafe(wheel, f"{name!r} claims to be both a file and a directory")


def _check_names(headers: list[_Header], wheel: str) -> None:
    files: set[str] = set()
    names: set[str] = set()
    for header in headers:
        name = header.name
        if name in names:
            raise _unsafe(wheel, f"{name!r} is there twice")
        names.add(name)
        try:
            check_path(name.removesuffix("/"), where=wheel)
        except FileTreeError as error:
            raise WheelError(error.what, where=wheel, hint=_UNSAFE_HINT) from error
        if not name.endswith("/"):
            files.add(name)
    checked: set[str] = set()
    for name in names:
        parent = name.removesuffix("/").rpartition("/")[0]
        if name.endswith("/") and name[:-1] in files:
            raise _unsafe(wheel, f"{name[:-1]!r} is both a file and a directory")
        while parent and parent not in checked:
            if parent in files:
                raise _unsafe(wheel, f"{parent!r} is both a file and a directory")
            checked.add(parent)
            parent = parent.rpartition("/")[0]


def _check_sizes(headers: list[_Header], file_size: int, wheel: str) -> None:
    total = 0
    for header in headers:
        name, size, compressed = header.name, header.size, header.compressed_size
        if header.offset + compressed > file_size:
            raise _damaged(wheel, f"{name!r} reaches past the end of the file")
        if header.method == STORED and size != compressed:
            raise _damaged(wheel, f"{name!r} is stored, yet has two sizes")
        if size > compressed * _MOST_RATIO:
            raise _unsafe(wheel, f"{name!r} claims {size} bytes, more than {compressed} can hold")
        if size == 0 and header.crc32:
            raise _damaged(wheel, f"{name!r} is empty, yet has a CRC-32")
        if size and name.endswith("/"):
            raise _unsafe(wheel, f"the directory {name!r} has content")
        total += size
    if total > _BOMB_SIZE and total > _BOMB_RATIO * file_size:
        raise _unsafe(wheel, f"it is a zip bomb: {file_size} bytes that unpack to {total}")


def _stream_offset(fd: int, header: _Header, wheel: str) -> int:
    """Return where the raw stream begins: after the local header (4.3.7), which must agree."""
    width = _LOCAL.size + len(header.raw_name)
    data = _read(fd, width, header.offset, wheel)
    fields = _LOCAL.unpack_from(data)
    signature, _, flags, method, _, _, crc32, compressed_size, size, name_size, extra_size = fields
    if signature != b"PK\3\4":
        raise _damaged(wheel, f"{header.name!r} isn't where the zip directory says")
    same = (
        name_size == len(header.raw_name)
        and data[_LOCAL.size :] == header.raw_name
        and method == header.method
        and not flags & 0x2041
    )
    if not flags & 8:  # 4.4.4, bit 3: sizes and CRC-32 follow the stream, and are 0 here
        same = (
            same
            and crc32 == header.crc32
            and compressed_size in (header.compressed_size, _LARGE)
            and size in (header.size, _LARGE)
        )
    if not same:
        raise _unsafe(wheel, f"the zip directory and the header of {header.name!r} disagree")
    return header.offset + width + int(extra_size)


def _read(fd: int, size: int, offset: int, wheel: str) -> bytes:
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise _damaged(wheel, "the file ends early")
    return data


_UNSAFE_HINT = "The wheel is unsafe and isn't used; ask where it came from."


def _unsafe(wheel: str, what: str) -> WheelError:
    return WheelError(what, where=wheel, hint=_UNSAFE_HINT)


def _damaged(wheel: str, what: str) -> WheelError:
    return WheelError(what, where=wheel, hint="The wheel is damaged; remove it and fetch it again.")
