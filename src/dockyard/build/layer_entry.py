"""Entries of the layer index: what is written of a layer into a registry, and what is believed.

An entry is an OCI artifact (image-spec manifest.md, "Guidelines for Artifact Usage"):

    artifactType  application/vnd.dockyard.layer.v1
    layers        the layer itself, so that the registry keeps it and others can mount it;
                  for wheels, the list of their files (gzip'd JSON)
    annotations   io.dockyard.layer.inputs  all that decides the layer's bytes, as JSON
                  io.dockyard.layer.diff-id, io.dockyard.layer.size  of the uncompressed tar

Rules:
- Its tag is the layer's kind and key; the key is the SHA-256 of the inputs, the same as in the
  cache (`store.layer_key`). An entry whose inputs don't have that hash isn't believed.
- The list of files holds what the check for clashes asks: paths, modes, sizes, hashes.
- Nothing from a registry is used before it is parsed here; what is wrong with it is said.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError
from dockyard.files import FileEntry
from dockyard.oci.descriptor import OCI_EMPTY, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Manifest
from dockyard.wheels.clash import FileClaims, ListedSource, content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dockyard.oci.layer import Layer
    from dockyard.wheels.clash import Claims

ARTIFACT = "application/vnd.dockyard.layer.v1"
FILES = "application/vnd.dockyard.layer.files.v1+gzip"
EMPTY = b"{}"

_INPUTS = "io.dockyard.layer.inputs"
_DIFF_ID = "io.dockyard.layer.diff-id"
_SIZE = "io.dockyard.layer.size"
_MOST_FILES = 64 << 20  # bytes of a list of files, unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEntry:
    """One layer as the index has it. size: bytes of the uncompressed tar; files: their list."""

    descriptor: Descriptor
    diff_id: Digest
    size: int
    files: Descriptor | None = None


def entry_tag(kind: str, key: str) -> str:
    """Under which tag the layer of this kind and key is found."""
    return f"{kind}-{key}"


def write_entry(layer: Layer, *, inputs: str, files: Descriptor | None) -> Manifest:
    """The entry's manifest; inputs: the JSON whose hash is the layer's key."""
    empty = Descriptor(media_type=OCI_EMPTY, digest=Digest.of(EMPTY), size=len(EMPTY))
    return Manifest(
        config=empty,
        layers=(layer.descriptor, *((files,) if files is not None else ())),
        artifact_type=ARTIFACT,
        annotations={
            _INPUTS: inputs,
            _DIFF_ID: str(layer.diff_id),
            _SIZE: str(layer.uncompressed_size or 0),
        },
    )


def read_entry(data: bytes, *, key: str, where: str) -> LayerEntry:
    """Read an entry's manifest; raises ImageError when it isn't one for this key."""
    manifest = Manifest.from_bytes(data, where=where)
    inputs = manifest.annotations.get(_INPUTS)
    size = manifest.annotations.get(_SIZE, "")
    if manifest.artifact_type != ARTIFACT or not isinstance(inputs, str) or not manifest.layers:
        raise ImageError("this is no entry of the layer index", where=where)
    if hashlib.sha256(inputs.encode()).hexdigest() != key:
        raise ImageError("the entry is for other inputs than its name says", where=where)
    layer = manifest.layers[0]
    if layer.media_type not in (OCI_LAYER_GZIP, OCI_LAYER_ZSTD) or not size.isdigit():
        raise ImageError("the entry doesn't describe a layer", where=where)
    files = next((each for each in manifest.layers[1:] if each.media_type == FILES), None)
    return LayerEntry(
        descriptor=layer,
        diff_id=Digest.parse(str(manifest.annotations.get(_DIFF_ID))),
        size=int(size),
        files=files,
    )


def write_files(wheels: Iterable[Claims]) -> bytes:
    """The list of the files of wheels in one layer."""
    value = [
        {"name": wheel.name, "files": [_row(entry) for entry in wheel.entries]} for wheel in wheels
    ]
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return gzip.compress(text.encode("utf-8", "surrogatepass"), 6, mtime=0)


def _row(entry: FileEntry) -> list[Any]:
    if entry.source is None:
        return [entry.path, entry.target]
    return [entry.path, entry.mode, entry.size, content_hash(entry.source).hex()]


def read_files(data: bytes, *, where: str) -> list[FileClaims]:
    """Read what `write_files` wrote; raises ImageError when it isn't that."""
    try:
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(data, _MOST_FILES)
        if not inflater.eof:
            raise ValueError("too long, or cut off")
        value = json.loads(text.decode("utf-8", "surrogatepass"))
        return [
            FileClaims(name=str(wheel["name"]), entries=_entries(wheel["files"])) for wheel in value
        ]
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise ImageError("the list of a layer's files can't be read", where=where) from error


def _entries(rows: Sequence[Any]) -> tuple[FileEntry, ...]:
    found = []
    for row in rows:
        if len(row) == 2:
            found.append(FileEntry(path=str(row[0]), kind="symlink", target=str(row[1])))
            continue
        path, mode, size, sha256 = row
        source = ListedSource(size=int(size), sha256=bytes.fromhex(sha256))
        found.append(FileEntry(path=str(path), mode=int(mode), source=source))
    return tuple(found)
