"""Content descriptors (image-spec descriptor.md) and the media types that we read and write."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError
from dockyard.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


# What a JSON "empty" config of an artifact is (image-spec manifest.md, "Guidance for an Empty
# Descriptor").
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

_LARGEST = (1 << 63) - 1  # descriptor.md: size is an int64
# descriptor.md, "mediaType": as RFC 6838, 4.2 has it.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}\Z")


def is_media_type(text: str) -> bool:
    """Whether text is a media type without parameters, such as "application/json"."""
    return bool(_MEDIA_TYPE.match(text))


def read_annotations(value: Mapping[str, Any], *, where: str) -> Mapping[str, str]:
    """A document's annotations (image-spec annotations.md: strings); empty without any."""
    found = value.get("annotations")
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ImageError("the annotations aren't a JSON object of strings", where=where)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a blob is, its digest, and its size in bytes.

    artifact_type: what an artifact's manifest is about; only in lists of referrers.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] | None = None
    artifact_type: str | None = None

    @classmethod
    def from_json(cls, value: Any, *, where: str) -> Descriptor:
        """Read a descriptor; raises ImageError naming `where` when a required field is wrong."""
        if not isinstance(value, dict):
            raise ImageError("a descriptor isn't a JSON object", where=where)
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if (
            not isinstance(media_type, str)
            or not isinstance(digest, str)
            or not isinstance(size, int)
            or isinstance(size, bool)
            or not 0 <= size <= _LARGEST
            or not is_media_type(media_type)
        ):
            raise ImageError("a descriptor needs mediaType, digest and size", where=where)
        annotations, platform = read_annotations(value, where=where), value.get("platform")
        if not isinstance(platform, dict | None):
            raise ImageError("a descriptor's platform isn't a JSON object", where=where)
        artifact_type = value.get("artifactType")
        return cls(
            media_type=media_type,
            digest=Digest.parse(digest),
            size=size,
            annotations=annotations,
            platform=platform,
            artifact_type=artifact_type if isinstance(artifact_type, str) else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor as the JSON object of the specification."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.platform is not None:
            value["platform"] = dict(self.platform)
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        return value
