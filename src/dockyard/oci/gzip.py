"""Gzip members (RFC 1952): the pieces that a layer's compressed bytes are made of.

Rules:
- A gzip file is any number of members, one after the other; it inflates to all their contents.
- Headers are constant: no time, no name, system 255 (unknown).
- What is compressed anew is compressed by libdeflate at one level. Its output doesn't depend on
  the processor, unlike that of ISA-L or zlib-ng; its version is pinned in pyproject.toml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import deflate

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
LEVEL = 6
_STORED = 65535  # RFC 1951, 3.2.4: a stored block's length has 16 bits


def member(data: bytes | bytearray | memoryview) -> bytes:
    """Compress data into one member."""
    return HEADER + deflate.deflate_compress(data, LEVEL) + trailer(deflate.crc32(data), len(data))


def trailer(crc32: int, size: int) -> bytes:
    """What closes a member of `size` bytes with this CRC-32 (2.3.1: the size is mod 2^32)."""
    return crc32.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def stored_size(size: int) -> int:
    """The length of the DEFLATE stream that holds `size` > 0 bytes uncompressed."""
    return size + 5 * -(-size // _STORED)


class StoredBlocks:
    """Wraps bytes into the blocks of an uncompressed DEFLATE stream, however they are chunked.

    Feed exactly `size` > 0 bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = 0

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield the stream's next bytes, which carry data."""
        view = memoryview(data)
        while view:
            if not self._block:
                self._block = min(_STORED, self._left)
                final = self._block == self._left
                length = self._block.to_bytes(2, "little")
                yield bytes([final]) + length + bytes(byte ^ 0xFF for byte in length)
            piece = view[: self._block]
            view = view[self._block :]
            self._block -= len(piece)
            self._left -= len(piece)
            yield piece
