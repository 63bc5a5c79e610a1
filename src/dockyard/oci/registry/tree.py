"""Trees of manifests: an index, what it lists, and the blobs that those name.

Rules: an index may list indexes, DEEPEST in all; what has been seen isn't followed again. What an
index lists and is neither manifest nor index is left to who understands it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.manifest import INDEX_TYPES, Index, Manifest

if TYPE_CHECKING:
    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.digest import Digest
    from dockyard.oci.registry.api import Source, StoredManifest

DEEPEST = 4


def manifests_below(source: Source, root: StoredManifest) -> list[StoredManifest]:
    """The manifest and all that it lists, those that are listed first."""
    found: dict[Digest, StoredManifest] = {}

    def visit(stored: StoredManifest, depth: int) -> None:
        if depth > DEEPEST:
            raise ImageError("the indexes are nested too deep", where=str(root.digest))
        if stored.media_type in INDEX_TYPES:
            for each in Index.from_bytes(stored.data, where=str(stored.digest)).manifests:
                if each.digest not in found:
                    visit(source.manifest(each.digest), depth + 1)
        found[stored.digest] = stored

    visit(root, 1)
    return list(found.values())


def blobs_of(stored: StoredManifest) -> tuple[Descriptor, ...]:
    """The blobs that a manifest names: its config and layers, each once; an index names none."""
    if stored.media_type in INDEX_TYPES:
        return ()
    manifest = Manifest.from_bytes(stored.data, where=str(stored.digest))
    each = {one.digest: one for one in (manifest.config, *manifest.layers)}
    return tuple(each.values())
