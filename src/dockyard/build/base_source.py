"""Where a base image comes from: a layout's folder, an archive's file, or a registry.

Rules:
- Of an image in a registry only manifest and configuration are read; its layers come when their
  bytes are wanted, and never when it is pushed to the registry that has them.
- What a tag named is kept in the cache until `--upgrade` asks again, like every resolution; a
  digest, in `base` or in the lock, is never asked for twice.
- Documents from the cache are checked against the digest again before they are used.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.errors import BuildError, ImageError
from dockyard.oci.digest import Digest, matches
from dockyard.oci.image import read_image
from dockyard.oci.reference import Reference

if TYPE_CHECKING:
    from dockyard.build.workshop import Workshop
    from dockyard.cache import Cache
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.oci.registry.api import Repository

_RECORD = "base-images"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSource:
    """Opens base images for one build.

    folder: what a relative path starts from; upgrade: ask what a tag names now; offline: don't.
    """

    shop: Workshop
    folder: Path
    upgrade: bool = False
    offline: bool = False

    def open(self, base: str, platform: Platform, *, pinned: Digest | None = None) -> Image:
        """The image; pinned: the digest that a lock has for it on this platform.

        Raises BuildError, ImageError or RegistryError.
        """
        kind, _, rest = base.partition(":")
        if kind == "oci" and rest:
            from dockyard.oci.layout import read_layout

            return read_layout(self.folder / rest, platform=platform)
        if kind == "archive" and rest:
            from dockyard.oci.archive import read_archive

            return read_archive(self.folder / rest, platform=platform)
        return self._from_registry(base, platform, pinned)

    def _from_registry(self, base: str, platform: Platform, pinned: Digest | None) -> Image:
        reference = _parse(base)
        repository = self.shop.registries.repository(reference)
        cache = self.shop.cache
        which = str(pinned or reference.digest or reference.tag)
        exact = pinned is not None or reference.digest is not None
        key = hashlib.sha256(f"{reference.repository}\n{which}\n{platform}".encode()).hexdigest()
        record = None if self.upgrade and not exact else cache.read_record(_RECORD, key)
        if record is not None:
            image = _remembered(record, cache, repository, where=base)
            if image is not None:
                return image
        if self.offline:
            raise BuildError(
                f"--offline was asked for, and the base {base} has never been looked at",
                where="`base`",
                hint="Build once without --offline.",
            )
        from dockyard.oci.registry.api import Absent
        from dockyard.oci.registry.pull import choose_platform

        try:
            with self.shop.reporter.task(f"Asking for {reference.familiar()}"):
                root = repository.manifest(pinned or reference.digest or reference.tag or "latest")
                image = choose_platform(repository, root, platform, where=base)
        except Absent as error:
            which = f", at {pinned}, which the lock has" if pinned is not None else ""
            raise BuildError(
                f"the registry has no image {reference.familiar()}{which}",
                where="`base`",
                hint=f"See what there is: dockyard tags {reference.repository}. A private image "
                f"wants a login: dockyard login {reference.domain}.",
            ) from error
        cache.write_record(_RECORD, key, _remember(image, cache))
        return image


def base_reference(base: str | None) -> Reference | None:
    """The image in a registry that `base` names; None when it is something else."""
    from dockyard.build.foundation import is_debian

    if base is None or is_debian(base) or base.startswith(("oci:", "archive:")):
        return None
    return _parse(base)


def _parse(base: str) -> Reference:
    try:
        return Reference.parse(base)
    except ImageError as error:
        raise BuildError(
            f"{error.what}",
            where="`base`",
            hint="Write bookworm or trixie, an image such as python:3.12-slim, oci:DIR or "
            "archive:FILE.",
        ) from error


def _remember(image: Image, cache: Cache) -> dict[str, Any]:
    for data in (image.manifest_bytes, image.config_bytes):
        with cache.writing_blob() as blob:
            blob.write(data)
    return {"manifest": str(image.digest), "family": image.family, "config": str(image.id)}


def _remembered(record: Any, cache: Cache, repository: Repository, *, where: str) -> Image | None:
    """The image of the cache's documents; None where they aren't what they were."""
    documents = []
    for key in ("manifest", "config"):
        digest = Digest.parse(record[key])
        try:
            data = cache.blob_path(digest.hex).read_bytes()
        except OSError:
            return None
        if not matches(data, digest):
            return None
        documents.append(data)
    manifest, config = documents
    return read_image(manifest, config, repository.blob, where=where, media_type=record["family"])
