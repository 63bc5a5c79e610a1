"""Image manifests and indexes (image-spec manifest.md, image-index.md) and Docker's older forms.

Rules: a manifest is of one family, OCI's or Docker's (media types of config and layers follow it);
zstd layers and annotations exist only in OCI's. Written canonically.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError
from dockyard.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from dockyard.oci.digest import Digest
from dockyard.oci.documents import canonical, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.oci.platform import Platform

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform: its config and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical(value)

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes."""
        return Digest.of(self.to_bytes())

    @property
    def descriptor(self) -> Descriptor:
        """What an index says of this manifest."""
        data = self.to_bytes()
        return Descriptor(media_type=self.media_type, digest=Digest.of(data), size=len(data))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, where: str) -> Manifest:
        """Read a manifest; raises ImageError naming `where` when the spec is broken."""
        value = parse(data, where=where)
        layers = value.get("layers")
        if value.get("schemaVersion") != 2 or not isinstance(layers, list) or "manifests" in value:
            raise ImageError("this is no image manifest of schema 2", where=where)
        return cls(
            media_type=value.get("mediaType") or OCI_MANIFEST,
            config=Descriptor.from_json(value.get("config"), where=where),
            layers=tuple(Descriptor.from_json(layer, where=where) for layer in layers),
            annotations=value.get("annotations") or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Images by platform, or the images of a layout."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical(value)

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes."""
        return Digest.of(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, where: str) -> Index:
        """Read an index; raises ImageError naming `where` when the spec is broken."""
        value = parse(data, where=where)
        manifests = value.get("manifests")
        if value.get("schemaVersion") != 2 or not isinstance(manifests, list):
            raise ImageError("this is no image index of schema 2", where=where)
        return cls(
            media_type=value.get("mediaType") or OCI_INDEX,
            manifests=tuple(Descriptor.from_json(item, where=where) for item in manifests),
            annotations=value.get("annotations") or {},
        )

    def select(self, platform: Platform) -> tuple[Descriptor, ...]:
        """The entries for this platform; entries that name no platform fit any."""
        exact = tuple(
            item
            for item in self.manifests
            if item.platform is not None
            and item.platform.get("os") == platform.os
            and item.platform.get("architecture") == platform.architecture
        )
        return exact or tuple(item for item in self.manifests if item.platform is None)
