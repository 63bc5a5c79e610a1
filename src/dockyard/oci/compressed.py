"""Plain layers, as engines save them, compressed for registries.

Rules: gzip members of 1 MiB by the pinned compressor, so that equal layers get equal digests on
every machine. What was compressed is kept in the cache, known by its diff ID.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci import gzip
from dockyard.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.layer import MEMBER, BlobFile
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.cache import Cache
    from dockyard.oci.image import Image
    from dockyard.oci.layer import Blob, Layer
    from dockyard.progress import Reporter

_RECORD = "compressed-layers"


def with_compressed_layers(image: Image, cache: Cache, *, reporter: Reporter = SILENT) -> Image:
    """The image with its plain layers as gzip; itself when there are none.

    Its configuration, and so its image ID, stays; its manifest is another. Raises ImageError when
    a layer isn't what its diff ID says.
    """
    if all(layer.descriptor.media_type != OCI_LAYER for layer in image.layers):
        return image
    layers = tuple(
        _compressed(layer, cache, reporter) if layer.descriptor.media_type == OCI_LAYER else layer
        for layer in image.layers
    )
    return replace(image, layers=layers, raw_manifest=None)


def _compressed(layer: Layer, cache: Cache, reporter: Reporter) -> Layer:
    key = layer.diff_id.hex
    record = cache.read_record(_RECORD, key)
    descriptor = Descriptor.from_json(record, where="the cache") if record is not None else None
    if descriptor is None or not cache.has_blob(descriptor.digest.hex):
        descriptor = _compress(layer, cache, reporter)
        cache.write_record(_RECORD, key, descriptor.to_json())
    path = cache.blob_path(descriptor.digest.hex)
    return replace(layer, descriptor=descriptor, blob=BlobFile(path=path))


def _compress(layer: Layer, cache: Cache, reporter: Reporter) -> Descriptor:
    import hashlib

    title = f"Compressing {layer.diff_id.hex[:12]}"
    plain = hashlib.new(layer.diff_id.algorithm)
    with (
        reporter.task(title, total=layer.descriptor.size) as task,
        cache.writing_blob() as writer,
    ):
        for data in _members(layer.blob):
            plain.update(data)
            writer.write(gzip.member(data))
            task.advance(len(data))
        if plain.hexdigest() != layer.diff_id.hex:
            raise ImageError(
                "a layer isn't what the image's configuration says", where=str(layer.diff_id)
            )
    return Descriptor(
        media_type=OCI_LAYER_GZIP, digest=Digest("sha256", writer.hexdigest), size=writer.size
    )


def _members(blob: Blob) -> Iterator[bytes]:
    """The bytes in pieces of one member each."""
    gathered = bytearray()
    for chunk in blob.chunks():
        gathered += chunk
        while len(gathered) >= MEMBER:
            yield bytes(gathered[:MEMBER])
            del gathered[:MEMBER]
    if gathered:
        yield bytes(gathered)
