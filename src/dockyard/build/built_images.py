"""Images that were built on this machine, by their image ID: no engine need give their bytes back.

Rules:
- What is kept is manifest and configuration; layers are found where the cache keeps them. One that
  is gone makes the image unknown, never wrong.
- An image ID is the digest of the configuration, or with containerd's store that of the manifest,
  so what is found is what the engine has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dockyard.build.store import LayerStore
from dockyard.errors import DockyardError
from dockyard.oci.image import read_image
from dockyard.oci.layer import BlobFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.image import Image
    from dockyard.oci.layer import Blob

_RECORD = "built-images"


def remember_image(image: Image, cache: Cache) -> None:
    """Keep what `recall_image` needs."""
    names = []
    for data in (image.manifest_bytes, image.config_bytes):
        with cache.writing_blob() as writer:
            writer.write(data)
        names.append(writer.hexdigest)
    record = {"manifest": names[0], "config": names[1], "media_type": image.family}
    for name in (image.id.hex, image.digest.hex):
        cache.write_record(_RECORD, name, record)


def recall_image(image_id: str, cache: Cache) -> Image | None:
    """The image with this ID ("sha256:…"), if it was built here and all its layers are still known.

    Its layers are the compressed ones that it was built with.
    """
    record = cache.read_record(_RECORD, image_id.rpartition(":")[2])
    if not isinstance(record, dict):
        return None
    try:
        manifest = cache.blob_path(record["manifest"]).read_bytes()
        config = cache.blob_path(record["config"]).read_bytes()
        finder = _Finder(cache)
        return read_image(
            manifest, config, finder.blob, where=image_id, media_type=record["media_type"]
        )
    except (OSError, KeyError, DockyardError):
        return None


class _Finder:
    """Layers of the cache by their digests; its records are read once, when first needed."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._store = LayerStore(cache=cache, archives=_CachedArchives(cache))
        self._keys: dict[str, list[str]] | None = None

    def blob(self, descriptor: Descriptor) -> Blob:
        """The layer's blob; raises KeyError when it is gone."""
        path = self._cache.blob_path(descriptor.digest.hex)
        if path.exists():
            return BlobFile(path=path, size=descriptor.size)
        if self._keys is None:
            self._keys = dict[str, list[str]]()
            for key, digest in self._records():
                self._keys.setdefault(digest, []).append(key)
        for key in self._keys[str(descriptor.digest)]:
            layer = self._store.find(key, created_by="")
            if layer is not None:
                return layer.blob
        raise KeyError(str(descriptor.digest))

    def _records(self) -> Iterator[tuple[str, str]]:
        for path in (self._cache.root / "records" / "layers").glob("*.json"):
            record = self._cache.read_record("layers", path.stem)
            if isinstance(record, dict):
                yield path.stem, str(record.get("descriptor", {}).get("digest"))


class _CachedArchives(Mapping[str, "Path"]):
    """Where each wheel's file is in the cache, or would be, by its SHA-256."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __getitem__(self, sha256: str) -> Path:
        return self._cache.blob_path(sha256)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
