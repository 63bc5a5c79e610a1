"""A tiny image by hand: a static busybox, a few scripts, and a docker-archive around them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def busybox() -> bytes:
    """A static busybox from this machine; the test is skipped where there is none."""
    for name in ("/bin/busybox", "/usr/bin/busybox"):
        path = Path(name)
        if path.exists() and b"ld-linux" not in (data := path.read_bytes())[:4096]:
            return data
    pytest.skip("no static busybox here (Debian's package busybox-static)")


def make_layer(files: Mapping[str, bytes | str]) -> bytes:
    """An uncompressed layer; text values are symlinks' targets, all files are executable."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def diff_id(layer: bytes) -> str:
    return f"sha256:{hashlib.sha256(layer).hexdigest()}"


def make_archive(
    name: str,
    layers: Sequence[bytes],
    config: Mapping[str, Any],
    *,
    left_out: int = 0,
    architecture: str = "amd64",
) -> bytes:
    """A docker-archive, as `docker save` writes; the lowest `left_out` layers are only named."""
    document = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [diff_id(layer) for layer in layers]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(document).hexdigest()}.json"
    names = [f"{diff_id(layer)[7:]}/layer.tar" for layer in layers]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": names}]).encode()
    members = {config_name: document, "manifest.json": manifest}
    members |= dict(zip(names[left_out:], layers[left_out:], strict=True))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def in_chunks(data: bytes, size: int = 65536) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), size):
        yield view[start : start + size]
