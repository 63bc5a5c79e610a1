"""Images: a configuration and layers, as an immutable value that everything else is derived from.

Rules:
- `append` and `with_config` return a new image; nothing is written anywhere.
- An image made here has canonical bytes. One that was read keeps the very bytes of its manifest
  and config until it is changed, so that its digest stays what its author signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.config import EPOCH, History, ImageConfig
from dockyard.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from dockyard.oci.digest import Digest, matches
from dockyard.oci.layer import Layer
from dockyard.oci.manifest import MANIFEST_TYPES, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockyard.oci.layer import Blob
    from dockyard.oci.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image for one platform.

    raw_manifest and raw_config are the bytes that were read, None for an image made here.
    family is the manifest's media type: OCI_MANIFEST or DOCKER_MANIFEST.
    """

    config: ImageConfig
    layers: tuple[Layer, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    family: str = OCI_MANIFEST
    raw_manifest: bytes | None = field(default=None, repr=False)
    raw_config: bytes | None = field(default=None, repr=False)

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return self.config.platform

    def append(self, layer: Layer, *, comment: str = "", created: str | None = EPOCH) -> Image:
        """This image with a layer on top, mentioned in its history.

        Raises ImageError for a zstd layer in an image of Docker's family, which can't hold it.
        """
        if self.family == DOCKER_MANIFEST and layer.descriptor.media_type == OCI_LAYER_ZSTD:
            raise ImageError(
                "a zstd layer can't go into an image of Docker's media types",
                hint='Use compression = "gzip", or a base image with OCI media types.',
            )
        history = History(created_by=layer.created_by, created=created, comment=comment)
        return replace(
            self,
            config=self.config.with_layer(layer.diff_id, history),
            layers=(*self.layers, layer),
            raw_manifest=None,
            raw_config=None,
        )

    def with_config(self, config: ImageConfig) -> Image:
        """This image with another configuration, which keeps this one's layers and history."""
        return replace(
            self,
            config=replace(config, diff_ids=self.config.diff_ids, history=self.config.history),
            raw_manifest=None,
            raw_config=None,
        )

    @property
    def config_bytes(self) -> bytes:
        """The configuration's bytes."""
        return self.raw_config if self.raw_config is not None else self.config.to_bytes()

    @property
    def id(self) -> Digest:
        """The digest of the configuration, which Docker calls the image ID."""
        return Digest.of(self.config_bytes)

    @property
    def manifest(self) -> Manifest:
        """The manifest."""
        if self.raw_manifest is not None:
            return Manifest.from_bytes(self.raw_manifest, where="manifest")
        docker = self.family == DOCKER_MANIFEST
        data = self.config_bytes
        return Manifest(
            media_type=self.family,
            config=Descriptor(
                media_type=DOCKER_CONFIG if docker else OCI_CONFIG,
                digest=Digest.of(data),
                size=len(data),
            ),
            layers=tuple(_in_family(layer.descriptor, docker=docker) for layer in self.layers),
            annotations=self.annotations,
        )

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest's bytes."""
        return self.raw_manifest if self.raw_manifest is not None else self.manifest.to_bytes()

    @property
    def digest(self) -> Digest:
        """The digest of the manifest, which names the image in a registry."""
        return Digest.of(self.manifest_bytes)

    @property
    def descriptor(self) -> Descriptor:
        """What an index says of this image."""
        data = self.manifest_bytes
        return Descriptor(
            media_type=self.family,
            digest=Digest.of(data),
            size=len(data),
            platform={"architecture": self.platform.architecture, "os": self.platform.os},
        )

    @property
    def size(self) -> int:
        """Compressed bytes of all layers."""
        return sum(layer.descriptor.size for layer in self.layers)


def read_image(
    manifest_bytes: bytes,
    config_bytes: bytes,
    blob: Callable[[Descriptor], Blob],
    *,
    where: str,
    media_type: str | None = None,
) -> Image:
    """Make an image of documents that were read; `blob` gives each layer's bytes, lazily.

    media_type is what the manifest was found under, for one that doesn't say it itself.
    Raises ImageError naming `where` when the documents break the specification.
    """
    manifest = Manifest.from_bytes(manifest_bytes, where=where)
    if media_type is not None:
        manifest = replace(manifest, media_type=media_type)
    if manifest.media_type not in MANIFEST_TYPES:
        raise ImageError(f"the manifest is of type {manifest.media_type!r}", where=where)
    if len(config_bytes) != manifest.config.size or not matches(
        config_bytes, manifest.config.digest
    ):
        raise ImageError("the configuration isn't the one that the manifest names", where=where)
    config = ImageConfig.from_bytes(config_bytes, where=where)
    if len(config.diff_ids) != len(manifest.layers):
        raise ImageError(
            f"the manifest has {len(manifest.layers)} layers, "
            f"the configuration {len(config.diff_ids)}",
            where=where,
        )
    sayings = [entry.created_by for entry in config.history if not entry.empty_layer]
    if len(sayings) != len(manifest.layers):
        sayings = [""] * len(manifest.layers)
    return Image(
        config=config,
        layers=tuple(
            Layer(
                descriptor=descriptor,
                diff_id=diff_id,
                uncompressed_size=None,
                blob=blob(descriptor),
                created_by=saying,
            )
            for descriptor, diff_id, saying in zip(
                manifest.layers, config.diff_ids, sayings, strict=True
            )
        ),
        annotations=manifest.annotations,
        family=manifest.media_type,
        raw_manifest=manifest_bytes,
        raw_config=config_bytes,
    )


def _in_family(descriptor: Descriptor, *, docker: bool) -> Descriptor:
    """The same blob under the family's media type (gzip layers have one in each)."""
    before, after = (
        (OCI_LAYER_GZIP, DOCKER_LAYER_GZIP) if docker else (DOCKER_LAYER_GZIP, OCI_LAYER_GZIP)
    )
    return replace(descriptor, media_type=after) if descriptor.media_type == before else descriptor
