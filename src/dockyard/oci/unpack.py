"""The tar inside a layer, whatever it is compressed with.

Rules: any number of gzip members or zstd frames; media types decide, as image-spec layer.md has
them. Damage is an ImageError. Nothing here checks digests: see `dockyard.oci.verify`.
"""

from __future__ import annotations

import tarfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError
from dockyard.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockyard.oci.layer import Layer

_zlib: Any = zlib
try:
    from isal import isal_zlib

    _zlib = isal_zlib
except ImportError:  # no ISA-L for this processor
    pass

_PIECE = 1 << 18


def tar_chunks(layer: Layer) -> Iterator[bytes | memoryview]:
    """Yield the layer's uncompressed tar; raises ImageError when its bytes are damaged."""
    kind = layer.descriptor.media_type
    chunks = layer.blob.chunks()
    if kind.endswith(("+gzip", ".gzip")):
        return gunzip(chunks, where=str(layer.descriptor.digest))
    if kind.endswith("+zstd"):
        return unzstd(chunks, where=str(layer.descriptor.digest))
    if kind.endswith(".tar"):
        return chunks
    raise ImageError(f"layers of type {kind!r} can't be read", where=str(layer.descriptor.digest))


@contextmanager
def open_tar(chunks: Iterator[bytes | memoryview], *, where: str) -> Iterator[tarfile.TarFile]:
    """Yield a tar being streamed: read each member's content before asking for the next member.

    What is left of the chunks afterwards is the caller's. Damage is an ImageError naming `where`.
    """
    try:
        with tarfile.open(
            fileobj=_Reader(chunks),  # type: ignore[call-overload]
            mode="r|",
            bufsize=CHUNK,
            errorlevel=2,
        ) as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise ImageError(f"the layer's tar is damaged: {error}", where=where) from error


class _Reader:
    """The part of a file object that tarfile's streaming mode uses."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
                continue
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)


def gunzip(chunks: Iterable[bytes | memoryview], *, where: str) -> Iterator[bytes]:
    """Yield what a gzip stream of any number of members holds."""
    inflater: Any = None
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), _PIECE):
                data = bytes(view[start : start + _PIECE])
                while data:
                    if inflater is None:
                        inflater = _zlib.decompressobj(wbits=31)
                    out = inflater.decompress(data, CHUNK)
                    if out:
                        yield out
                    if inflater.eof:
                        data, inflater = inflater.unused_data, None
                    else:
                        data = inflater.unconsumed_tail
                        if not data:
                            break
                # What is left of the output doesn't need more input.
                while inflater is not None and len(out := inflater.decompress(b"", CHUNK)):
                    yield out
    except (zlib.error, _zlib.error) as error:
        raise ImageError("the layer's gzip data is damaged", where=where) from error
    if inflater is not None:
        raise ImageError("the layer's gzip data ends early", where=where)


def unzstd(chunks: Iterable[bytes | memoryview], *, where: str) -> Iterator[bytes]:
    """Yield what a zstd stream of any number of frames holds."""
    import zstandard

    inflater: Any = None
    try:
        for chunk in chunks:
            data = bytes(chunk)
            while data:
                if inflater is None:
                    inflater = zstandard.ZstdDecompressor().decompressobj()
                if out := inflater.decompress(data):
                    yield out
                if inflater.eof:
                    data, inflater = inflater.unused_data, None
                else:
                    data = b""
    except zstandard.ZstdError as error:
        raise ImageError("the layer's zstd data is damaged", where=where) from error
    if inflater is not None:
        raise ImageError("the layer's zstd data ends early", where=where)
