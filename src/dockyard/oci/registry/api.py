"""What is asked of a registry: the protocols that the HTTP client and the one in memory share.

Rules:
- A manifest travels as the bytes that its author wrote; a digest is always of those bytes.
- What is not there is None or False from the questions (`head`, `has_blob`, `mount`), and an
  `Absent` error from what needs it.
- Bytes are streamed and checked on the way: who reads a blob to its end has the right bytes, or an
  error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from dockyard.errors import RegistryError
from dockyard.oci.descriptor import Descriptor
from dockyard.oci.digest import Digest

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dockyard.oci.layer import Blob
    from dockyard.oci.reference import Reference


class Absent(RegistryError):
    """The registry doesn't have it (or doesn't show it to this user)."""


class Denied(RegistryError):
    """The registry wants other credentials, or none will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """The bytes of a manifest or index, their media type, and their digest."""

    media_type: str
    digest: Digest
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, data: bytes, media_type: str) -> StoredManifest:
        """Name the bytes by their SHA-256."""
        return cls(media_type=media_type, digest=Digest.of(data), data=data)

    @property
    def descriptor(self) -> Descriptor:
        """What others say of it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


# How a blob came to be where it should be.
Placed = Literal["there", "mounted", "uploaded"]


class Source(Protocol):
    """Where images can be read from."""

    def manifest(self, which: str | Digest) -> StoredManifest:
        """The manifest or index with this tag or digest; raises Absent without one."""

    def blob(self, descriptor: Descriptor) -> Blob:
        """The blob, read lazily, any number of times; each whole read is checked."""


@runtime_checkable
class FromRepository(Protocol):
    """A blob that says which repository it is read from."""

    @property
    def repository(self) -> Located:
        """The repository."""


class Located(Protocol):
    """What names a repository."""

    @property
    def domain(self) -> str:
        """The registry."""

    @property
    def path(self) -> str:
        """The repository there."""


class Repository(Source, Protocol):
    """One repository of one registry. Methods may be called from any thread."""

    @property
    def domain(self) -> str:
        """The registry: "docker.io"."""

    @property
    def path(self) -> str:
        """The repository there: "library/python"."""

    @property
    def stop(self) -> threading.Event:
        """While it is set, what is being transferred ends with an error."""

    def head(self, which: str | Digest) -> Descriptor | None:
        """What manifest the tag or digest names, without reading it; None when there is none."""

    def put_manifest(self, manifest: StoredManifest, *, tag: str | None = None) -> None:
        """Store the manifest under its digest, and under the tag if one is given."""

    def delete_manifest(self, which: str | Digest) -> None:
        """Remove a manifest (with a digest, all its tags too), or one tag."""

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository holds the blob."""

    def put_blob(
        self,
        descriptor: Descriptor,
        blob: Blob,
        *,
        mount_from: Sequence[str] = (),
        advance: Callable[[int], None] = lambda amount: None,
    ) -> Placed:
        """See that the blob is here: ask, mount from one of these repositories, else upload.

        mount_from: paths of the same registry. advance is told the bytes sent, once each.
        """

    def mount(self, descriptor: Descriptor, from_path: str) -> bool:
        """Take the blob over from another repository of the registry, without its bytes.

        False when the registry doesn't (the blob isn't there, or it mounts nothing).
        """

    def delete_blob(self, digest: Digest) -> None:
        """Remove a blob from the repository."""

    def tags(self) -> Iterator[str]:
        """All tags, as the registry orders them."""

    def referrers(self, digest: Digest, *, artifact_type: str | None = None) -> list[Descriptor]:
        """The manifests whose `subject` is this digest; artifact_type keeps those of one type."""


class Registries(Protocol):
    """Every registry, each with the user's own connections and credentials."""

    def repository(self, reference: Reference | str) -> Repository:
        """The repository that the reference names; its tag and digest are left aside.

        Nothing is asked of the registry yet.
        """


def wanted(reference: Reference) -> str | Digest:
    """What of its repository a reference names; a digest rules over a tag."""
    found = reference.digest or reference.tag
    assert found is not None, "a parsed reference has a tag or a digest"
    return found


def artifact_types(found: Iterable[Descriptor], artifact_type: str | None) -> list[Descriptor]:
    """Those of one artifact type; all without one."""
    return [each for each in found if artifact_type in (None, each.artifact_type)]


def referrers_tag(digest: Digest) -> str:
    """The tag that lists referrers where the API is absent ("Referrers Tag Schema")."""
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"
