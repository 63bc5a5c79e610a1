"""Images for the registries' tests: a few layers of known bytes, made in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from pathlib import Path

import pytest

from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.platform import Platform


def small_layer(name: str, size: int = 1000) -> Layer:
    """A layer with one file of `size` bytes that don't compress."""
    return layer_of(name, random.Random(name).randbytes(size))


def layer_of(name: str, data: bytes) -> Layer:
    """A layer with one executable file."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o755
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


def busybox_layer() -> Layer:
    """A layer with this machine's static busybox, so that the image runs."""
    for name in ("/bin/busybox", "/usr/bin/busybox"):
        path = Path(name)
        if path.exists() and b"ld-linux" not in (data := path.read_bytes())[:4096]:
            return layer_of("bin/busybox", data)
    pytest.skip("no static busybox here (Debian's package busybox-static)")
