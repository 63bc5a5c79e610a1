"""Image manifests and indexes (image-spec manifest.md, image-index.md) and Docker's older forms.

Rules:
- A manifest is of one family, OCI's or Docker's (media types of config and layers follow it); zstd
  layers and annotations exist only in OCI's. Written canonically.
- What has both layers and manifests is refused, whatever it calls itself: two readers could
  see two images (CVE-2021-41190).
- More layers than any engine takes are refused before anything is made of them.
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
    read_annotations,
)
from dockyard.oci.digest import Digest
from dockyard.oci.documents import canonical, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.oci.platform import Platform

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)

# Linux's overlayfs takes 500 lower folders, and Docker 127; a few thousand is nobody's image.
MOST_LAYERS = 1000
MOST_MANIFESTS = 10_000

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform: its config and its layers, bottom first.

    artifact_type and subject are those of an artifact that isn't an image: what it is, and the
    manifest that it is about.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    subject: Descriptor | None = None

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.subject is not None:
            value["subject"] = self.subject.to_json()
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
        if len(layers) > MOST_LAYERS:
            raise ImageError(
                f"the manifest has {len(layers)} layers, more than {MOST_LAYERS}", where=where
            )
        subject, artifact_type = value.get("subject"), value.get("artifactType")
        return cls(
            media_type=value.get("mediaType") or OCI_MANIFEST,
            config=Descriptor.from_json(value.get("config"), where=where),
            layers=tuple(Descriptor.from_json(layer, where=where) for layer in layers),
            annotations=read_annotations(value, where=where),
            artifact_type=artifact_type if isinstance(artifact_type, str) else None,
            subject=Descriptor.from_json(subject, where=where) if subject is not None else None,
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
        if (
            value.get("schemaVersion") != 2
            or not isinstance(manifests, list)
            or "layers" in value
            or "config" in value
        ):
            raise ImageError("this is no image index of schema 2", where=where)
        if len(manifests) > MOST_MANIFESTS:
            raise ImageError(
                f"the index has {len(manifests)} manifests, more than {MOST_MANIFESTS}",
                where=where,
            )
        return cls(
            media_type=value.get("mediaType") or OCI_INDEX,
            manifests=tuple(Descriptor.from_json(item, where=where) for item in manifests),
            annotations=read_annotations(value, where=where),
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


def manifest_type(data: bytes, header: str, *, where: str) -> str:
    """The media type of a manifest or index that a registry sent under a Content-Type.

    Raises ImageError for anything else, and when the document says another type than the header
    (image-spec manifest.md, "mediaType": they must agree).
    """
    value = parse(data, where=where)
    own = value.get("mediaType")
    known = MANIFEST_TYPES + INDEX_TYPES
    if header.startswith(_SCHEMA_1) or value.get("schemaVersion") == 1:
        raise ImageError(
            "the manifest is of Docker's schema 1, which no longer holds what an image needs",
            where=where,
            hint="Push the image again with a Docker or Podman of the last eight years.",
        )
    if header in known and own in known and header != own:
        raise ImageError(f"the manifest is sent as {header} and says it is {own}", where=where)
    if own is not None and own not in known:
        raise ImageError(f"the manifest is of type {str(own)[:100]!r}", where=where)
    if own is None and header in known:
        own = header
    if own is None:
        # image-spec: mediaType may be left out, and some registries send text/plain.
        own = OCI_INDEX if "manifests" in value else OCI_MANIFEST
    reader: type[Manifest] | type[Index] = Index if own in INDEX_TYPES else Manifest
    reader.from_bytes(data, where=where)
    return str(own)
