"""Inflating raw DEFLATE streams, with ISA-L where it is installed, else with zlib.

Rules: which library inflates can't change a result; size and CRC-32 are always checked, and a
stream can't write more than its declared size (a zip bomb stops at its first extra byte).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Protocol

from dockyard.errors import FileTreeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK = 1 << 20

_zlib: Any = zlib
try:
    from isal import isal_zlib

    _zlib = isal_zlib
except ImportError:  # no ISA-L for this processor
    pass


error: tuple[type[Exception], ...] = (zlib.error, _zlib.error)


def decompressor() -> Any:
    """Return what inflates one raw DEFLATE stream, with the interface of zlib's objects."""
    return _zlib.decompressobj(wbits=-15)


class RawStream(Protocol):
    """One raw DEFLATE stream in a file: see `files.DeflatedSource`."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def offset(self) -> int:
        """Where in it the stream begins."""

    @property
    def compressed_size(self) -> int:
        """Bytes of the stream."""

    @property
    def size(self) -> int:
        """Bytes that it inflates to."""

    @property
    def crc32(self) -> int:
        """Their CRC-32."""


def inflate(
    source: RawStream, *, on_raw: Callable[[bytes], object] | None = None
) -> Iterator[bytes]:
    """Yield the inflated bytes of `source` in pieces of at most CHUNK.

    on_raw is given each piece of the compressed stream, in order, before it is inflated.
    Raises FileTreeError, naming the archive, when the stream is damaged, shorter or longer than
    declared, or its CRC-32 differs.
    """
    inflater = decompressor()
    crc = 0
    produced = 0
    left = source.compressed_size
    with source.path.open("rb", buffering=0) as file:
        file.seek(source.offset)
        data = b""
        while True:
            if not data and left and not inflater.eof:
                data = file.read(min(CHUNK // 4, left))
                if not data:
                    raise _damaged(source, "ends early")
                left -= len(data)
                if on_raw is not None:
                    on_raw(data)
            try:
                out = inflater.decompress(data, CHUNK)
            except Exception as error:
                raise _damaged(source, "is no valid DEFLATE stream") from error
            data = inflater.unconsumed_tail
            if out:
                produced += len(out)
                if produced > source.size:
                    raise _damaged(source, "inflates to more than its declared size")
                crc = _zlib.crc32(out, crc)
                yield out
            if inflater.eof or (not out and not data and not left):
                break
    if not inflater.eof or produced != source.size:
        raise _damaged(source, "doesn't inflate to its declared size")
    if left or inflater.unused_data:
        raise _damaged(source, "has bytes after the end of its stream")
    if crc != source.crc32:
        raise _damaged(source, "doesn't have its declared CRC-32")


def _damaged(source: RawStream, how: str) -> FileTreeError:
    return FileTreeError(
        f"the compressed data at byte {source.offset} {how}",
        where=str(source.path),
        hint="The archive is damaged; remove it and fetch it again.",
    )
