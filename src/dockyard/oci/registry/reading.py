"""A blob read piece by piece, in one pass, and checked at its end.

Rules:
- Going on where the last piece ended costs nothing; what lies between is read past. Who wants to go
  back takes a new reader.
- The last byte isn't given before the whole blob is known to be the descriptor's: a registry never
  gets all of a wrong one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dockyard.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.layer import Blob


class BlobReader:
    """One pass over a blob; position: how many bytes have been given or read past."""

    def __init__(self, blob: Blob, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._chunks = iter(blob.chunks())
        self._state = hashlib.new(descriptor.digest.algorithm)
        self._rest = memoryview(b"")
        self._hashed = 0
        self.position = 0

    def read(self, start: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes from start, which isn't before the position.

        Raises ImageError when the blob has other bytes than its descriptor says.
        """
        end = start + size
        while self.position < end:
            if not self._rest:
                self._rest = self._next()
            if self.position < start:
                self._take(start - self.position)
            elif piece := self._take(end - self.position):
                yield bytes(piece)

    def _take(self, most: int) -> memoryview:
        piece, self._rest = self._rest[:most], self._rest[most:]
        self.position += len(piece)
        return piece

    def _next(self) -> memoryview:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise self._changed()
        self._state.update(chunk)
        self._hashed += len(chunk)
        whole = self._descriptor.size
        if self._hashed > whole or (
            self._hashed == whole and self._state.hexdigest() != self._descriptor.digest.hex
        ):
            raise self._changed()
        return memoryview(chunk)

    def _changed(self) -> ImageError:
        return ImageError(
            "a layer gave other bytes than the image says",
            where=str(self._descriptor.digest),
            hint="What it is made from was changed; build again.",
        )
