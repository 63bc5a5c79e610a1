"""The layers that the cache knows: by what went into them, and how to stream their bytes again.

Rules:
- A key is the SHA-256 of everything that can change a layer's bytes; the layout version is part
  of each. Equal keys mean equal layers, on any machine.
- A layer spliced from wheels is kept as a recipe (some literals and a list of slices), not as a
  second copy of the wheels. It counts as known only while those wheels are on disk.
- Two processes that want one layer pack it once: the second waits, and finds it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError
from dockyard.oci.descriptor import Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.layer import LAYOUT_VERSION, BlobFile, Layer, pack_layer
from dockyard.oci.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.files import FileEntry
    from dockyard.oci.layer import Blob, Compression

_RECORD = "layers"


def layer_key(kind: str, **inputs: Any) -> str:
    """The cache key of a layer of this kind made from these JSON-able inputs."""
    return key_of(layer_inputs(kind, **inputs))


def layer_inputs(kind: str, **inputs: Any) -> str:
    """The text whose SHA-256 is the key."""
    facts = {"layout": LAYOUT_VERSION, "kind": kind, **inputs}
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def key_of(inputs: str) -> str:
    """The key of these inputs."""
    return hashlib.sha256(inputs.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredRecipe:
    """A layer's bytes from its recipe, which isn't read before they are wanted."""

    path: Path
    locate: Callable[[str], Path]

    def chunks(self) -> Iterator[bytes | memoryview]:
        return Recipe.open(self.path).chunks(self.locate)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStore:
    """The cache's layers.

    archives: where each wheel's file is, by its SHA-256 (hexadecimal).
    """

    cache: Cache
    archives: Mapping[str, Path]

    def find(self, key: str, *, created_by: str) -> Layer | None:
        """The layer with this key, if its bytes can still be streamed."""
        record = self.cache.read_record(_RECORD, key)
        if record is None:
            return None
        content = self.cache.blob_path(record["content"])
        descriptor = Descriptor.from_json(record["descriptor"], where=f"cache record {key}")
        try:
            whole = content.stat().st_size == record["content_size"]
        except (OSError, KeyError):
            return None  # Gone: as good as never packed.
        if not whole or not all(self._present(name) for name in record["archives"]):
            return None
        blob: Blob = BlobFile(path=content)
        if record["archives"]:
            blob = _StoredRecipe(path=content, locate=self._locate)
        return Layer(
            descriptor=descriptor,
            diff_id=Digest.parse(record["diff_id"]),
            uncompressed_size=record["uncompressed_size"],
            blob=blob,
            created_by=created_by,
        )

    def pack(
        self,
        key: str,
        entries: Callable[[], Sequence[FileEntry]],
        *,
        created_by: str,
        compression: Compression,
        advance: Callable[[int], None],
    ) -> Layer:
        """Pack the layer with this key, or find it when another process has just packed it.

        `entries` is called only when there is something to pack.
        """
        with self.cache.lock(f"layer {key}"):
            found = self.find(key, created_by=created_by)
            if found is not None:
                return found
            names = {path: sha256 for sha256, path in self.archives.items()}
            packed = pack_layer(
                entries(),
                cache=self.cache,
                compression=compression,
                advance=advance,
                archive=names.get,
            )
            self.cache.write_record(
                _RECORD,
                key,
                {
                    "descriptor": packed.descriptor.to_json(),
                    "diff_id": str(packed.diff_id),
                    "uncompressed_size": packed.uncompressed_size,
                    "content": packed.content,
                    "content_size": self.cache.blob_path(packed.content).stat().st_size,
                    "archives": list(packed.recipe.archives) if packed.recipe else [],
                },
            )
        layer = self.find(key, created_by=created_by)
        if layer is None:
            raise ImageError(
                "a layer went away while it was being used",
                where=str(self.cache.root),
                hint="Build again, and prune the cache only when no build runs.",
            )
        return layer

    def _locate(self, name: str) -> Path:
        return self.archives[name]

    def _present(self, name: str) -> bool:
        path = self.archives.get(name)
        return path is not None and path.exists()
