"""Images to build on, made on the spot: layers of files, and installed distributions."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from local_base import ARCHITECTURE
from tiny_index import metadata

from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_LAYER, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping


def tar_layer(files: Mapping[str, bytes | str | Path]) -> Layer:
    """A layer of files: bytes, links (text), or a file of the host with its mode."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
                continue
            data = content.read_bytes() if isinstance(content, Path) else content
            executable = isinstance(content, Path) and content.stat().st_mode & 0o111
            member.size, member.mode = len(data), 0o755 if executable else 0o644
            archive.addfile(member, io.BytesIO(data))
    data = out.getvalue()
    return Layer(
        descriptor=Descriptor(media_type=OCI_LAYER, digest=Digest.of(data), size=len(data)),
        diff_id=Digest.of(data),
        uncompressed_size=None,
        blob=BytesBlob(data=data),
    )


def distribution(
    site: str,
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    scripts: str = "",
    code: str = "",
) -> dict[str, bytes | str | Path]:
    """The files of an installed distribution."""
    info = f"{site}/{name}-{version}.dist-info"
    text = code or f"__version__ = {version!r}\n\ndef main():\n    print('{name}', __version__)\n"
    found: dict[str, bytes | str | Path] = {
        f"{site}/{name}/__init__.py": text.encode(),
        f"{info}/METADATA": metadata(name, version, list(requires), []).encode(),
    }
    if scripts:
        found[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n".encode()
    return found


def image_with(*layers: Layer) -> Image:
    image = Image(config=ImageConfig(platform=Platform("linux", ARCHITECTURE)))
    for layer in layers:
        image = image.append(layer)
    return image
