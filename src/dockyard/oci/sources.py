"""Reading the many small files of a layer quickly, and telling which long ones compress.

Rules: the same checks as `dockyard.inflate` makes, without its per-file costs (opening the archive
again, a generator, many pieces). Only files of up to SMALL, or WHOLE, bytes come here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import deflate

from dockyard import inflate
from dockyard.errors import FileTreeError

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.files import DeflatedSource, SliceSource

SMALL = 1 << 16
WHOLE = 1 << 20

_OPEN = 16
_SAMPLES = 5
_SAMPLE = 1 << 16
_WORTH = 0.9  # compressing a file is worth its time when it gets smaller than this


class OpenFiles:
    """Archives kept open while their small files are read; a context manager."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}
        self._latest: tuple[Path | None, int] = (None, -1)

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *error: Any) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def inflated(self, source: DeflatedSource) -> bytearray:
        """Return the file's bytes; raises FileTreeError when size or CRC-32 aren't as declared."""
        raw = self._pread(source.path, source.offset, source.compressed_size)
        try:
            data: bytearray = deflate.deflate_decompress(raw, source.size)
        except deflate.DeflateError as error:
            raise _damaged(source, "doesn't inflate to its declared size") from error
        if len(data) != source.size:
            raise _damaged(source, "doesn't inflate to its declared size")
        if deflate.crc32(data) != source.crc32:
            raise _damaged(source, "doesn't have its declared CRC-32")
        return data

    def whole(self, source: DeflatedSource) -> tuple[bytes, bytes]:
        """Return the file's DEFLATE stream and its bytes, with all the checks of `inflate`."""
        raw = self._pread(source.path, source.offset, source.compressed_size)
        # libdeflate doesn't say how much of its input it used, and the stream is to be copied.
        inflater = inflate.decompressor()
        try:
            data: bytes = inflater.decompress(raw, source.size + 1)
        except inflate.error as error:
            raise _damaged(source, "is no valid DEFLATE stream") from error
        if not inflater.eof or len(data) != source.size:
            raise _damaged(source, "doesn't inflate to its declared size")
        if inflater.unused_data:
            raise _damaged(source, "has bytes after the end of its stream")
        if deflate.crc32(data) != source.crc32:
            raise _damaged(source, "doesn't have its declared CRC-32")
        return raw, data

    def read(self, source: SliceSource) -> bytes:
        """Return the file's bytes; raises FileTreeError when there are fewer than declared."""
        return self._pread(source.path, source.offset, source.size)

    def _pread(self, path: Path, offset: int, size: int) -> bytes:
        latest, handle = self._latest
        if path is not latest:  # hashing a Path costs more than reading the file
            handle = self._handle(path)
            self._latest = (path, handle)
        data = os.pread(handle, size, offset)
        if len(data) != size:
            raise FileTreeError(
                f"the file ends before byte {offset + size}",
                where=str(path),
                hint="The file is damaged; remove it and fetch it again.",
            )
        return data

    def _handle(self, path: Path) -> int:
        handle = self._open.get(path)
        if handle is None:
            if len(self._open) >= _OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            handle = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return handle


def compresses(source: SliceSource) -> bool:
    """Whether samples of a long file (its start, end, and between) get a tenth smaller."""
    step = max(0, source.size - _SAMPLE) // (_SAMPLES - 1)
    before = after = 0
    with source.path.open("rb", buffering=0) as file:
        for number in range(_SAMPLES):
            file.seek(source.offset + number * step)
            data = file.read(_SAMPLE)
            before += len(data)
            after += len(deflate.deflate_compress(data, 1))
    return after < before * _WORTH


def _damaged(source: DeflatedSource, how: str) -> FileTreeError:
    return FileTreeError(
        f"the compressed data at byte {source.offset} {how}",
        where=str(source.path),
        hint="The archive is damaged; remove it and fetch it again.",
    )
