"""Tar headers for layers (image-spec layer.md), the same bytes for the same entry everywhere.

Rules:
- POSIX ustar headers. A PAX header goes before one only where ustar can't say it: a name that is
  not ASCII or doesn't fit name and prefix, a link target over 100 bytes, 8 GiB and more.
- uid and gid as the entry says, no user or group names, one modification time for everything. It
  is 1980-01-01, not 1970: zip tools, which Python packages use on their own files, refuse what is
  older.
- Names carry no "./"; a directory's name ends with "/".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from dockyard.errors import ImageError

if TYPE_CHECKING:
    from dockyard.files import FileEntry

BLOCK = 512
MTIME = 315532800
END = bytes(2 * BLOCK)  # POSIX pax: two blocks of zeros close the archive

_TYPES = {"file": b"0", "symlink": b"2", "directory": b"5"}
_MAX_SIZE = 8**11  # eleven octal digits
# name mode ids size mtime checksum type linkname magic (user, group: none) device prefix
_HEADER = struct.Struct("100s 8s 16s 12s 12s 8s c 100s 8s 64x 16s 155s 12x")
_IDS = b"0000000\x000000000\0"
_MAX_ID = 0o7777777  # seven octal digits
_TIME = b"%011o\0" % MTIME
_MAGIC = b"ustar\x0000"
_SPACES = b" " * 8


def header(entry: FileEntry) -> bytes:
    """Return the header blocks of `entry`; a multiple of 512 bytes.

    Raises ImageError when its path or link target can't be written as UTF-8.
    """
    name = entry.path + "/" if entry.kind == "directory" else entry.path
    size = entry.size
    if len(name) <= 100 and name.isascii() and not entry.target and size < _MAX_SIZE:
        return _block(
            name.encode(), entry.mode & 0o7777, size, _TYPES[entry.kind], ids=_owner(entry)
        )
    return _long_header(entry, name, size)


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of a file of this size."""
    return bytes(-size % BLOCK)


def _long_header(entry: FileEntry, name: str, size: int) -> bytes:
    prefix = b""
    records: dict[str, str] = {}
    raw = _ascii(name)
    if raw is not None and len(raw) > 100:
        cut = _cut(raw)
        if cut:
            prefix, raw = raw[:cut], raw[cut + 1 :]
        else:
            raw = None
    if raw is None:
        records["path"] = name
        raw = _stand_in(name)
    target = _ascii(entry.target)
    if target is None or len(target) > 100:
        records["linkpath"] = entry.target
        target = _stand_in(entry.target)
    if size >= _MAX_SIZE:
        records["size"] = str(size)
        size = 0
    block = _block(
        raw, entry.mode & 0o7777, size, _TYPES[entry.kind], target, prefix, ids=_owner(entry)
    )
    return _pax(records, entry.path) + block if records else block


def _ascii(text: str) -> bytes | None:
    return text.encode("ascii") if text.isascii() else None


def _stand_in(text: str) -> bytes:
    """What readers without PAX see: deterministic, and at most 100 bytes."""
    return text.encode("ascii", "replace")[:100]


def _cut(name: bytes) -> int:
    """Where a slash splits name into a prefix of 155 and a rest of 100 bytes; 0 where none does."""
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    return cut if cut > 0 and len(name) - cut - 1 <= 100 else 0


def _owner(entry: FileEntry) -> bytes:
    if not entry.uid and not entry.gid:
        return _IDS
    if max(entry.uid, entry.gid) > _MAX_ID:
        raise ImageError(
            f"/{entry.path} is of user {entry.uid}, group {entry.gid}: numbers end at {_MAX_ID}",
            hint="Choose a smaller number.",
        )
    return b"%07o\0%07o\0" % (entry.uid, entry.gid)


def _block(
    name: bytes,
    mode: int,
    size: int,
    kind: bytes,
    target: bytes = b"",
    prefix: bytes = b"",
    *,
    ids: bytes = _IDS,
) -> bytes:
    block = _HEADER.pack(
        name,
        b"%07o\0" % mode,
        ids,
        b"%011o\0" % size,
        _TIME,
        _SPACES,
        kind,
        target,
        _MAGIC,
        _IDS,
        prefix,
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax(records: dict[str, str], path: str) -> bytes:
    try:
        body = b"".join(_record(key, records[key]) for key in sorted(records))
    except UnicodeEncodeError as error:
        raise ImageError(
            f"the name {path!r} isn't valid Unicode and can't be in an image",
            hint="Rename the file, or leave it out.",
        ) from error
    return _block(b"PaxHeaders/entry", 0o644, len(body), b"x") + body + padding(len(body))


def _record(key: str, value: str) -> bytes:
    """One "LENGTH KEY=VALUE\\n" record, whose length counts its own digits (POSIX pax)."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
