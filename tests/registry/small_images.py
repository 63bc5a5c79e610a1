"""Images for the registries' tests: a few layers of known bytes, made in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile

from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.platform import Platform


def small_layer(name: str, size: int = 1000) -> Layer:
    """A layer with one file of `size` bytes that don't compress."""
    data = random.Random(name).randbytes(size)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, io.BytesIO(data))
    packed = gzip.compress(plain.getvalue(), mtime=0)
    return Layer(
        descriptor=Descriptor(
            media_type=OCI_LAYER_GZIP, digest=Digest.of(packed), size=len(packed)
        ),
        diff_id=Digest("sha256", hashlib.sha256(plain.getvalue()).hexdigest()),
        uncompressed_size=len(plain.getvalue()),
        blob=BytesBlob(data=packed),
        created_by=f"layer {name}",
    )


def small_image(*layers: Layer, architecture: str = "amd64", env: str = "") -> Image:
    """An image of these layers; env makes its configuration, and so its digest, its own."""
    image = Image(
        config=ImageConfig(
            platform=Platform("linux", architecture), env={"NOTE": env} if env else {}
        )
    )
    for layer in layers or (small_layer("one"), small_layer("two", 50_000)):
        image = image.append(layer)
    return image
