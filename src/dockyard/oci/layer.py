"""Layers (image-spec layer.md): packing files into one, and the bytes of one already packed.

Rules:
- Equal entries give equal bytes on every machine. LAYOUT_VERSION stands for all that decides the
  bytes besides the entries: headers, member sizes, thresholds, compressors and their levels. It
  is part of every cache key, and grows with any change that changes a digest.
- Packing is one pass, whose memory doesn't grow with the layer.
- What the cache keeps of a layer is its recipe where it is spliced, else its compressed bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from dockyard.errors import ImageError
from dockyard.files import CHUNK
from dockyard.oci import gzip
from dockyard.oci.descriptor import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.recipe import Recipe, RecipeBuilder
from dockyard.oci.splice import CompressedSide, Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.files import FileEntry

LAYOUT_VERSION = 1
MEMBER = 1 << 20
ZSTD_FRAME = 8 << 20
ZSTD_LEVEL = 6

Compression = Literal["gzip", "zstd"]


class Blob(Protocol):
    """Bytes that can be streamed any number of times, always the same."""

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes in order, in pieces of about 1 MiB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFile:
    """A blob in a file of its own, or `size` bytes of one from `offset`."""

    path: Path
    offset: int = 0
    size: int | None = None

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes; raises ImageError when the file can't be read or is too short."""
        left = self.size
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset)
                while left is None or left:
                    data = file.read(CHUNK if left is None else min(CHUNK, left))
                    if not data:
                        break
                    yield data
                    left = None if left is None else left - len(data)
        except OSError as error:
            raise ImageError(f"a blob can't be read: {error.strerror}", where=str(self.path)) from (
                error
            )
        if left:
            raise ImageError("a blob ends early", where=str(self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeBlob:
    """A blob made again from its recipe; locate maps an archive's name to its file."""

    recipe: Recipe
    locate: Callable[[str], Path]

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes; raises ImageError when an archive is absent or short."""
        return self.recipe.chunks(self.locate)


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesBlob:
    """A blob in memory, such as a config."""

    data: bytes

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        yield self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an image: what it is, and its compressed bytes.

    uncompressed_size is the tar's, in bytes; None where nobody has counted them.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int | None
    blob: Blob
    created_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayer:
    """What packing found out.

    content: SHA-256 (hexadecimal) of the cache's blob that can give the layer's bytes again: the
    written form of `recipe`, or, where recipe is None, the compressed layer itself.
    files: the paths packed, directories left out. uncompressed_size is the tar's, in bytes.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int
    content: str
    recipe: Recipe | None
    files: tuple[str, ...] = field(repr=False)


def pack_layer(
    entries: Sequence[FileEntry],
    *,
    cache: Cache,
    compression: Compression = "gzip",
    advance: Callable[[int], None] = lambda amount: None,
    out: BinaryIO | None = None,
    archive: Callable[[Path], str | None] = str,
) -> PackedLayer:
    """Pack entries, as `with_parents` returns them, into one layer.

    advance is told the bytes of file content as they are packed. out, if given, receives the
    compressed bytes as they are made. archive names the files that sources lie in for the recipe
    (a wheel's SHA-256; the default is the path); None keeps the bytes themselves.
    Raises FileTreeError or ImageError, naming file and archive, when a source isn't what it
    declares to be.
    """
    compress, member_size = _compressor(compression)
    recipe = RecipeBuilder()
    with cache.temporary() as path:
        with path.open("wb") as literals:
            side = CompressedSide(literals=literals, recipe=recipe, out=out)
            with Packer(
                side,
                recipe,
                compress=compress,
                member_size=member_size,
                splices=compression == "gzip",
                archive=archive,
                advance=advance,
            ) as packer:
                for entry in _in_order(entries):
                    packer.add(entry)
        digest = Digest("sha256", side.sha256.hexdigest())
        if recipe.sliced:
            written, content = recipe.finish(path)
        else:
            written, content = None, digest.hex
        cache.adopt(path, content)
    return PackedLayer(
        descriptor=Descriptor(
            media_type=OCI_LAYER_ZSTD if compression == "zstd" else OCI_LAYER_GZIP,
            digest=digest,
            size=side.size,
        ),
        diff_id=Digest("sha256", packer.diff_id.hexdigest()),
        uncompressed_size=packer.uncompressed_size,
        content=content,
        recipe=written,
        files=tuple(entry.path for entry in entries if entry.kind != "directory"),
    )


def _in_order(entries: Sequence[FileEntry]) -> Iterator[FileEntry]:
    """Pass the entries on; a wrong order would make equal content unequal bytes."""
    before: list[str] = []
    for entry in entries:
        parts = entry.path.split("/")
        if parts <= before:
            raise ImageError(
                f"the entry {entry.path!r} is repeated or out of order",
                hint="Pass the entries through with_parents.",
            )
        before = parts
        yield entry


def _compressor(compression: Compression) -> tuple[Callable[[bytes], bytes], int]:
    if compression == "gzip":
        return gzip.member, MEMBER
    import zstandard

    # One frame per piece rather than one compressor with threads: the bytes can't depend on
    # how many threads there are, and each frame says its size.
    def frame(data: bytes) -> bytes:
        # A compressor may not be used by two threads at once.
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False).compress(data)

    return frame, ZSTD_FRAME
