"""Whole trees of an image layout: an index with all its platforms, in and out, byte for byte.

Rules:
- What is copied keeps its digest: manifests and indexes are taken as they are, attestations and
  artifacts among them.
- The rest is `dockyard.oci.layout`'s: blobs first, index.json last, in one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.digest import matches
from dockyard.oci.documents import MAX_SIZE
from dockyard.oci.layer import BytesBlob
from dockyard.oci.layout import REF_NAME, add_tree, layout_blob, read_index
from dockyard.oci.manifest import manifest_type
from dockyard.oci.registry.api import Absent, StoredManifest
from dockyard.oci.registry.tree import blobs_of, manifests_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.digest import Digest
    from dockyard.oci.layer import Blob
    from dockyard.oci.registry.api import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSource:
    """The images in a layout's folder, as a source."""

    folder: Path

    def manifest(self, which: str | Digest) -> StoredManifest:
        """The manifest with this name or digest; raises Absent without one."""
        if isinstance(which, str):
            entry = self._named(which)
            return self._read(entry.digest, entry.media_type)
        return self._read(which, "")

    def only(self) -> StoredManifest:
        """The layout's only manifest or index; raises ImageError when there are several."""
        entries = read_index(self.folder).manifests
        digests = {entry.digest for entry in entries}
        if len(digests) != 1:
            names = sorted({each.annotations.get(REF_NAME, "") for each in entries} - {""})
            raise ImageError(
                "there are several images" if digests else "there is no image",
                where=str(self.folder),
                hint=f"Say which: oci:{self.folder}:NAME, with {', '.join(names)}."
                if names
                else None,
            )
        return self._read(entries[0].digest, entries[0].media_type)

    def blob(self, descriptor: Descriptor) -> Blob:
        """The blob's file; its size is checked now, its digest by who reads it."""
        return layout_blob(self.folder, descriptor)

    def _named(self, name: str) -> Descriptor:
        for entry in read_index(self.folder).manifests:
            if entry.annotations.get(REF_NAME) == name:
                return entry
        raise Absent(f"there is no image called {name!r}", where=str(self.folder))

    def _read(self, digest: Digest, media_type: str) -> StoredManifest:
        path = self.folder / "blobs" / digest.algorithm / digest.hex
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
        except OSError as error:
            raise Absent(f"the layout lacks {digest}", where=str(self.folder)) from error
        if not matches(data, digest):
            raise ImageError("a manifest doesn't have its digest", where=str(path))
        kind = manifest_type(data, media_type, where=str(path))
        return StoredManifest(media_type=kind, digest=digest, data=data)


def write_tree(
    source: Source,
    root: StoredManifest,
    folder: Path,
    *,
    reference_name: str | None = None,
    advance: Callable[[int], None] = lambda amount: None,
) -> None:
    """Add a manifest or index, and all below it, to the layout in `folder`, made if absent.

    advance is told the bytes of layers as they are written or found.
    """
    blobs: list[tuple[Descriptor, Blob]] = []
    for stored in manifests_below(source, root):
        blobs += [(each, source.blob(each)) for each in blobs_of(stored)]
        blobs.append((stored.descriptor, BytesBlob(data=stored.data)))
    add_tree(folder, root.descriptor, blobs, reference_name=reference_name, advance=advance)
