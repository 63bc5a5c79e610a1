"""Reading an image back and saying everything that is wrong with it.

Rules: nothing is trusted that can be counted or hashed. All problems are returned, not just the
first; an empty list means that every engine and registry will take the image for what it says.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockyard.errors import DockyardError
from dockyard.files import check_path
from dockyard.oci.descriptor import DOCKER_MANIFEST, OCI_LAYER_ZSTD
from dockyard.oci.digest import Digest, matches
from dockyard.oci.tar import MTIME
from dockyard.oci.tree import OPAQUE, WHITEOUT
from dockyard.oci.unpack import open_tar, tar_chunks

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

    from dockyard.oci.image import Image
    from dockyard.oci.layer import Blob, Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where: a layer's number (from 0) and path, or a document."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify_image(image: Image, *, ours: bool = True) -> list[Problem]:
    """Read the whole image and return its problems.

    ours asks more than the specification does: what Dockyard promises of layers that it makes
    (sorted, parents present, one owner, one time). Pass False for other people's images.
    """
    problems = [Problem(where="manifest", what=what) for what in check_documents(image)]
    for number, layer in enumerate(image.layers):
        problems += [
            Problem(where=f"layer {number}", what=what) for what in verify_layer(layer, ours=ours)
        ]
    return problems


def verify_layer(layer: Layer, *, ours: bool = True) -> list[str]:
    """Read one layer and return what is wrong with it."""
    packed = _Counted(layer.blob)
    plain = _Counted(None)
    problems: list[str] = []
    try:
        chunks = plain.count(iter(tar_chunks(replace(layer, blob=packed))))
        with open_tar(chunks, where="tar") as archive:
            problems += _check_members(archive, ours=ours)
        for _ in chunks:  # the padding after the tar's end belongs to its hash
            pass
    except DockyardError as error:
        problems.append(error.what)
        packed = _Counted(layer.blob)
        for _ in packed.chunks():
            pass
        if packed.digest != layer.descriptor.digest:
            problems.append(f"its digest is {packed.digest}, not {layer.descriptor.digest}")
        return problems
    if packed.digest != layer.descriptor.digest:
        problems.append(f"its digest is {packed.digest}, not {layer.descriptor.digest}")
    if packed.size != layer.descriptor.size:
        problems.append(f"it has {packed.size} bytes, not {layer.descriptor.size}")
    if plain.digest != layer.diff_id:
        problems.append(f"its diff ID is {plain.digest}, not {layer.diff_id}")
    if layer.uncompressed_size not in (None, plain.size):
        problems.append(f"its tar has {plain.size} bytes, not {layer.uncompressed_size}")
    return problems


class _Counted:
    """A blob, or any chunks, hashed and counted while they pass."""

    def __init__(self, blob: Blob | None) -> None:
        self._blob = blob
        self._state = hashlib.sha256()
        self.size = 0

    def chunks(self) -> Iterator[bytes | memoryview]:
        assert self._blob is not None
        return self.count(self._blob.chunks())

    def count(self, chunks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            self._state.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> Digest:
        return Digest("sha256", self._state.hexdigest())


def check_documents(image: Image) -> Iterator[str]:
    """What is wrong with manifest and configuration, one sentence each."""
    manifest = image.manifest
    config = image.config_bytes
    if manifest.config.size != len(config) or not matches(config, manifest.config.digest):
        yield "it names another configuration than the image has"
    if [layer.diff_id for layer in image.layers] != list(image.config.diff_ids):
        yield "the configuration's diff IDs aren't those of the layers"
    if [layer.digest for layer in manifest.layers] != [
        layer.descriptor.digest for layer in image.layers
    ]:
        yield "its layers aren't the image's"
    past = image.config.history
    if past and sum(not entry.empty_layer for entry in past) != len(image.layers):
        yield "the history doesn't match the layers one to one"
    if manifest.media_type == DOCKER_MANIFEST and any(
        layer.media_type == OCI_LAYER_ZSTD for layer in manifest.layers
    ):
        yield "a manifest of Docker's media types can't hold zstd layers"


def _check_members(archive: tarfile.TarFile, *, ours: bool) -> Iterator[str]:
    seen: dict[str, bool] = {}
    before: list[str] = []
    for member in archive:
        path = member.name.removeprefix("./").rstrip("/")
        if path in ("", "."):
            continue
        if path in seen:
            yield f"{path!r} is there twice"
        seen[path] = member.isdir()
        if unsafe := _unsafe(path, whiteouts=not ours):
            yield unsafe
        if not ours:
            continue
        if path.split("/") <= before:
            yield f"{path!r} is out of order"
        before = path.split("/")
        parent = posixpath.dirname(path)
        if parent and not seen.get(parent, False):
            yield f"{path!r} comes without its folder"
        if not (member.isfile() or member.isdir() or member.issym()):
            yield f"{path!r} is neither file, folder nor symbolic link"
        if member.uid or member.gid or member.uname or member.gname:
            yield f"{path!r} belongs to somebody else than root"
        if member.mtime != MTIME:
            yield f"{path!r} has a time of its own"


def _unsafe(path: str, *, whiteouts: bool) -> str | None:
    folder, name = posixpath.split(path)
    if whiteouts and name.startswith(WHITEOUT):
        path = posixpath.join(folder, "x" if name == OPAQUE else name.removeprefix(WHITEOUT))
    try:
        check_path(path, where="tar")
    except DockyardError as error:
        return error.what
    return None
