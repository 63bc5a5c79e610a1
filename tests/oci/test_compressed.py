"""Plain layers become gzip for registries: the same files, the same bytes each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from oci_samples import image_of

from dockyard.cache import Cache
from dockyard.errors import ImageError
from dockyard.oci.compressed import with_compressed_layers
from dockyard.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.unpack import tar_chunks
from dockyard.oci.verify import verify_image


@pytest.fixture
def plain(sample: tuple[Layer, dict[str, bytes]]) -> Layer:
    """The sample's layer as an engine would save it."""
    layer, _ = sample
    data = b"".join(tar_chunks(layer))
    descriptor = replace(
        layer.descriptor, media_type=OCI_LAYER, digest=Digest.of(data), size=len(data)
    )
    return replace(layer, descriptor=descriptor, blob=BytesBlob(data=data))


def test_a_plain_layer_is_compressed_and_stays_what_it_is(plain: Layer, cache: Cache) -> None:
    image = image_of(plain)
    packed = with_compressed_layers(image, cache)
    assert packed.layers[0].descriptor.media_type == OCI_LAYER_GZIP
    assert packed.layers[0].descriptor.size < plain.descriptor.size
    assert packed.id == image.id
    assert verify_image(packed) == []


def test_compressing_again_gives_the_same_and_reads_nothing(
    plain: Layer, cache: Cache, tmp_path: Path
) -> None:
    first = with_compressed_layers(image_of(plain), cache)
    gone = replace(plain, blob=BytesBlob(data=b"not read"))
    assert with_compressed_layers(image_of(gone), cache).digest == first.digest
    other = with_compressed_layers(image_of(plain), Cache(tmp_path / "other"))
    assert other.digest == first.digest


def test_a_layer_with_other_bytes_is_refused(plain: Layer, cache: Cache) -> None:
    wrong = replace(plain, blob=BytesBlob(data=b"something else"))
    with pytest.raises(ImageError, match="isn't what the image's configuration says"):
        with_compressed_layers(image_of(wrong), cache)


def test_compressed_layers_stay_as_they_are(
    sample: tuple[Layer, dict[str, bytes]], cache: Cache
) -> None:
    image: Image = image_of(sample[0])
    assert with_compressed_layers(image, cache) is image
