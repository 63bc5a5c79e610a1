"""Which glibc a shared library needs: a small reader of ELF's symbol versions.

Rules (ELF gABI; "Symbol Versioning" of the LSB): only 64-bit little-endian files, which is all
that amd64 and arm64 have. The section SHT_GNU_verneed lists, per needed library, the versions.
"""

from __future__ import annotations

import re
import struct

_VERNEED = 0x6FFFFFFE
_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)")


def needed_glibc(data: bytes) -> tuple[int, int] | None:
    """Return the newest glibc (2, 34) that this file's symbols ask for; None: none, or no ELF."""
    if data[:6] != b"\x7fELF\x02\x01":
        return None
    try:
        return _newest(data)
    except (struct.error, ValueError):
        # Damaged tables: the loader will refuse the file, not we.
        return None


def _newest(data: bytes) -> tuple[int, int] | None:
    table, size, count = _header(data)
    found: list[tuple[int, int]] = []
    for index in range(count):
        section = table + index * size
        kind = struct.unpack_from("<I", data, section + 4)[0]
        if kind != _VERNEED:
            continue
        offset, _, link, entries = struct.unpack_from("<QQII", data, section + 24)
        strings = struct.unpack_from("<Q", data, table + link * size + 24)[0]
        for _ in range(entries):
            _, versions, _, first, following = struct.unpack_from("<HHIII", data, offset)
            place = offset + first
            for _ in range(versions):
                _, _, _, name, step = struct.unpack_from("<IHHII", data, place)
                end = data.index(b"\0", strings + name)
                if match := _GLIBC.fullmatch(data[strings + name : end]):
                    found.append((int(match[1]), int(match[2])))
                place += step
            offset += following
    return max(found, default=None)


def _header(data: bytes) -> tuple[int, int, int]:
    """Offset of the section table, size of its entries, their number."""
    table = struct.unpack_from("<Q", data, 40)[0]
    size, count = struct.unpack_from("<HH", data, 58)
    return table, size, count
