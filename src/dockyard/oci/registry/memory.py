"""Registries in memory, with the rules of real ones; for tests, and for what needs no server.

Rules: a manifest isn't taken before its blobs are there; bytes are hashed; a mount needs the blob
in the other repository; one repository doesn't see another's blobs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockyard.errors import RegistryError
from dockyard.oci.digest import Digest, matches
from dockyard.oci.manifest import INDEX_TYPES, Index, Manifest, manifest_type
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import Absent, StoredManifest, artifact_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.layer import Blob
    from dockyard.oci.registry.api import Placed


class MemoryRegistries:
    """Every registry there is, empty at first."""

    def __init__(self) -> None:
        self._repositories: dict[tuple[str, str], MemoryRepository] = {}
        self._lock = threading.Lock()

    def repository(self, reference: Reference | str) -> MemoryRepository:
        """The repository that the reference names."""
        name = Reference.parse(reference) if isinstance(reference, str) else reference
        with self._lock:
            key = (name.domain, name.path)
            if key not in self._repositories:
                self._repositories[key] = MemoryRepository(
                    domain=name.domain, path=name.path, registries=self
                )
            return self._repositories[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBlob:
    """A blob of a repository in memory."""

    data: bytes = field(repr=False)
    repository: MemoryRepository

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes."""
        yield self.data


@dataclass(kw_only=True)
class MemoryRepository:
    """One repository; `requests` are what was done, as "upload sha256:…", for who wants to know."""

    domain: str
    path: str
    registries: MemoryRegistries = field(repr=False)
    blobs: dict[Digest, bytes] = field(default_factory=dict, repr=False)
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict, repr=False)
    tagged: dict[str, Digest] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list, repr=False)
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def manifest(self, which: str | Digest) -> StoredManifest:
        """The manifest with this tag or digest."""
        digest = which if isinstance(which, Digest) else self.tagged.get(which)
        if digest is None or digest not in self.manifests:
            raise Absent(f"there is no manifest {which}", where=f"{self.domain}/{self.path}")
        return self.manifests[digest]

    def head(self, which: str | Digest) -> Descriptor | None:
        """What the tag or digest names."""
        try:
            return self.manifest(which).descriptor
        except Absent:
            return None

    def put_manifest(self, manifest: StoredManifest, *, tag: str | None = None) -> None:
        """Store the manifest, if all that it names is here."""
        where = f"{self.domain}/{self.path}"
        manifest_type(manifest.data, manifest.media_type, where=where)
        if not matches(manifest.data, manifest.digest):
            raise RegistryError("the manifest doesn't have its digest", where=where)
        if manifest.media_type in INDEX_TYPES:
            listed = Index.from_bytes(manifest.data, where=where).manifests
            missing = [each for each in listed if each.digest not in self.manifests]
        else:
            found = Manifest.from_bytes(manifest.data, where=where)
            missing = [
                each for each in (found.config, *found.layers) if each.digest not in self.blobs
            ]
        if missing:
            raise RegistryError(
                f"the manifest names {missing[0].digest}, unknown here", where=where
            )
        self.manifests[manifest.digest] = manifest
        if tag is not None:
            self.tagged[tag] = manifest.digest
        self.requests.append(f"manifest {tag or manifest.digest}")

    def delete_manifest(self, which: str | Digest) -> None:
        """Remove a manifest, or a tag."""
        if isinstance(which, Digest):
            if self.manifests.pop(which, None) is None:
                raise Absent(f"there is no manifest {which}", where=f"{self.domain}/{self.path}")
            self.tagged = {tag: digest for tag, digest in self.tagged.items() if digest != which}
        elif self.tagged.pop(which, None) is None:
            raise Absent(f"there is no tag {which}", where=f"{self.domain}/{self.path}")

    def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return digest in self.blobs

    def blob(self, descriptor: Descriptor) -> Blob:
        """The blob."""
        if descriptor.digest not in self.blobs:
            raise Absent(
                f"there is no blob {descriptor.digest}", where=f"{self.domain}/{self.path}"
            )
        self.requests.append(f"read {descriptor.digest}")
        return MemoryBlob(data=self.blobs[descriptor.digest], repository=self)

    def put_blob(
        self,
        descriptor: Descriptor,
        blob: Blob,
        *,
        mount_from: Sequence[str] = (),
        advance: Callable[[int], None] = lambda amount: None,
    ) -> Placed:
        """See that the blob is here."""
        if self.has_blob(descriptor.digest):
            return "there"
        if any(self.mount(descriptor, path) for path in mount_from):
            return "mounted"
        data = b"".join(blob.chunks())
        if len(data) != descriptor.size or not matches(data, descriptor.digest):
            raise RegistryError(
                f"the bytes aren't those of {descriptor.digest}",
                where=f"{self.domain}/{self.path}",
            )
        self.blobs[descriptor.digest] = data
        self.requests.append(f"upload {descriptor.digest}")
        advance(len(data))
        return "uploaded"

    def mount(self, descriptor: Descriptor, from_path: str) -> bool:
        """Take the blob over from another repository of the registry."""
        other = self.registries._repositories.get((self.domain, from_path))
        if other is None or descriptor.digest not in other.blobs:
            return False
        self.blobs[descriptor.digest] = other.blobs[descriptor.digest]
        self.requests.append(f"mount {descriptor.digest}")
        return True

    def delete_blob(self, digest: Digest) -> None:
        """Remove a blob."""
        if self.blobs.pop(digest, None) is None:
            raise Absent(f"there is no blob {digest}", where=f"{self.domain}/{self.path}")

    def tags(self) -> Iterator[str]:
        """All tags, sorted; raises Absent where nothing has been pushed."""
        if not self.manifests:
            raise Absent("there is no repository of this name", where=f"{self.domain}/{self.path}")
        yield from sorted(self.tagged)

    def referrers(self, digest: Digest, *, artifact_type: str | None = None) -> list[Descriptor]:
        """The manifests whose subject is this digest."""
        found = []
        for stored in self.manifests.values():
            if stored.media_type in INDEX_TYPES:
                continue
            manifest = Manifest.from_bytes(stored.data, where=self.path)
            if manifest.subject is not None and manifest.subject.digest == digest:
                kind = manifest.artifact_type or manifest.config.media_type
                found.append(
                    replace(stored.descriptor, artifact_type=kind, annotations=manifest.annotations)
                )
        return artifact_types(found, artifact_type)
