"""Repositories over HTTP: the distribution specification's requests, one method for each.

Rules:
- Names and digests go into paths as they are: they were parsed, so they hold nothing to escape.
- Reading asks the mirrors first, then the registry; a mirror that doesn't have it, or doesn't
  answer, or answers wrongly, is passed over. Writing, listing and removing ask the registry only.
- What a registry sends is counted and hashed before it is believed: a manifest has at most 4 MiB
  and the digest it was asked by; a blob the size and digest of its descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError, RegistryError
from dockyard.oci.descriptor import Descriptor
from dockyard.oci.digest import Digest, matches
from dockyard.oci.documents import MAX_SIZE, parse
from dockyard.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, Index, manifest_type
from dockyard.oci.reference import is_tag
from dockyard.oci.registry.api import Absent, StoredManifest, artifact_types, referrers_tag
from dockyard.oci.registry.connection import Answer, Connection, Request
from dockyard.oci.registry.downloads import RemoteBlob
from dockyard.oci.registry.refusals import shown_url
from dockyard.oci.registry.uploads import BlobUpload

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from dockyard.cache import Cache
    from dockyard.oci.layer import Blob
    from dockyard.oci.registry.api import Placed

ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_PAGE = 1000
_MOST_TAGS = 1_000_000
_LIST = 16 << 20  # bytes of one page of tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One endpoint that has the repository, and the repository's path there."""

    connection: Connection
    path: str
    by_digest_only: bool = False

    def scopes(self, *actions: str) -> frozenset[str]:
        """What a token must allow."""
        return frozenset({f"repository:{self.path}:{','.join(actions)}"})


class HttpRepository:
    """One repository of one registry; the protocol is `api.Repository`."""

    def __init__(
        self, *, domain: str, path: str, own: Place, mirrors: Sequence[Place], cache: Cache | None
    ) -> None:
        """cache remembers unfinished uploads."""
        self.domain = domain
        self.path = path
        self._own = own
        self._mirrors = tuple(mirrors)
        self._cache = cache
        self._writing = False

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def stop(self) -> threading.Event:
        """Ends what is being transferred while it is set."""
        return self._own.connection.patience.stop

    # Manifests.

    def manifest(self, which: str | Digest) -> StoredManifest:
        """Read a manifest; raises Absent, and RegistryError when it isn't what it should be."""
        return self._first(lambda place: self._manifest_at(place, which), by_tag=_is_tag(which))

    def head(self, which: str | Digest) -> Descriptor | None:
        """Ask for a manifest; where the registry's answer is incomplete, read it."""
        request = self._reading(self._own, "HEAD", f"manifests/{which}", "asking for the manifest")
        answer = self._own.connection.ask(request, good=(200,), absent_ok=True)
        if answer is None:
            return None
        length = answer.headers.get("content-length", "")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        named = _named_digest(answer)
        digest = which if isinstance(which, Digest) else named
        if digest is None or not length.isdigit() or kind not in MANIFEST_TYPES + INDEX_TYPES:
            return self._manifest_at(self._own, which).descriptor
        if named is not None and named.algorithm == digest.algorithm and named != digest:
            raise _other_digest(named, digest, answer)
        return Descriptor(media_type=kind, digest=digest, size=int(length))

    def put_manifest(self, manifest: StoredManifest, *, tag: str | None = None) -> None:
        """Store a manifest; the registry must name the digest that the bytes have."""
        self._writing = True
        which = tag if tag is not None else str(manifest.digest)
        request = self._writing_request(
            "PUT",
            f"manifests/{which}",
            f"pushing the manifest of {self}",
            headers={"Content-Type": manifest.media_type},
            data=manifest.data,
        )
        answer = self._own.connection.ask(request, good=(201, 200, 202))
        assert answer is not None
        named = _named_digest(answer)
        if named is not None and named.algorithm == "sha256" and named != manifest.digest:
            raise _other_digest(named, manifest.digest, answer)

    def delete_manifest(self, which: str | Digest) -> None:
        """Remove a manifest or a tag; raises Absent without one."""
        self._delete(f"manifests/{which}", f"deleting {which}")

    # Blobs.

    def has_blob(self, digest: Digest) -> bool:
        """Ask for a blob, at the registry itself."""
        request = self._reading(self._own, "HEAD", f"blobs/{digest}", "asking for a blob")
        # A redirect says that it is there; where it leads may be signed for a GET alone.
        there = (200, 301, 302, 303, 307, 308)
        request = replace(request, follow=False)
        return self._own.connection.ask(request, good=there, absent_ok=True) is not None

    def blob(self, descriptor: Descriptor) -> Blob:
        """The blob, downloaded whenever it is read."""
        return RemoteBlob(repository=self, descriptor=descriptor)

    def blob_requests(self, digest: Digest) -> list[tuple[Connection, Request]]:
        """How a blob is got: from the mirrors, then from the registry."""
        return [
            (place.connection, self._reading(place, "GET", f"blobs/{digest}", "reading a blob"))
            for place in (*self._mirrors, self._own)
        ]

    def put_blob(
        self,
        descriptor: Descriptor,
        blob: Blob,
        *,
        mount_from: Sequence[str] = (),
        advance: Callable[[int], None] = lambda amount: None,
    ) -> Placed:
        """See that the blob is here; raises RegistryError when the registry won't take it."""
        self._writing = True
        if self.has_blob(descriptor.digest):
            return "there"
        upload = self._upload(descriptor)
        for path in mount_from:
            if path != self.path and upload.mount(path):
                return "mounted"
        upload.send(blob, advance)
        return "uploaded"

    def mount(self, descriptor: Descriptor, from_path: str) -> bool:
        """Take the blob over from another repository of the registry."""
        self._writing = True
        upload = self._upload(descriptor)
        mounted = upload.mount(from_path)
        upload.abandon()
        return mounted

    def delete_blob(self, digest: Digest) -> None:
        """Remove a blob; raises Absent without one."""
        self._delete(f"blobs/{digest}", f"deleting blob {digest}")

    # Lists.

    def tags(self) -> Iterator[str]:
        """All tags, page by page ("Listing Tags"); raises Absent without such a repository."""
        url: str | None = f"tags/list?n={_PAGE}"
        seen: set[str] = set()
        count = 0
        while url is not None:
            request = self._reading(self._own, "GET", url, f"listing the tags of {self}")
            answer = self._own.connection.ask(request, good=(200,), most=_LIST)
            assert answer is not None
            value = _json(answer)
            tags = value.get("tags") or []
            if not isinstance(tags, list) or not all(map(is_tag, tags)):
                raise RegistryError(
                    "the registry's list of tags can't be read", where=shown_url(answer.url)
                )
            count += len(tags)
            yield from tags
            url = _next_page(answer, seen)
            if count > _MOST_TAGS:
                raise RegistryError(
                    f"the registry lists more than {_MOST_TAGS} tags", where=shown_url(answer.url)
                )

    def referrers(self, digest: Digest, *, artifact_type: str | None = None) -> list[Descriptor]:
        """The API ("Listing Referrers"), and where it is absent the tag that stands for it."""
        query = f"?artifactType={_quoted(artifact_type)}" if artifact_type else ""
        url: str | None = f"referrers/{digest}{query}"
        found: list[Descriptor] = []
        seen: set[str] = set()
        while url is not None:
            request = self._reading(self._own, "GET", url, f"listing what refers to {digest}")
            answer = self._own.connection.ask(
                request, good=(200, 400, 405, 501), most=MAX_SIZE, absent_ok=True
            )
            if answer is None or answer.status != 200:
                return self._referrers_by_tag(digest, artifact_type)
            where = shown_url(answer.url)
            found += Index.from_bytes(answer.data, where=where).manifests
            url = _next_page(answer, seen)
        return artifact_types(found, artifact_type)

    def _referrers_by_tag(self, digest: Digest, artifact_type: str | None) -> list[Descriptor]:
        try:
            stored = self._manifest_at(self._own, referrers_tag(digest))
        except Absent:
            return []
        index = Index.from_bytes(stored.data, where=f"{self}:{referrers_tag(digest)}")
        return artifact_types(index.manifests, artifact_type)

    # How.

    def _manifest_at(self, place: Place, which: str | Digest) -> StoredManifest:
        request = self._reading(place, "GET", f"manifests/{which}", f"reading {self}{_as(which)}")
        answer = place.connection.ask(request, good=(200,), most=MAX_SIZE)
        assert answer is not None
        where = shown_url(answer.url)
        if isinstance(which, Digest):
            digest = which
            if not matches(answer.data, digest):
                raise _other_digest(Digest.of(answer.data), digest, answer)
        else:
            digest = Digest.of(answer.data)
            named = _named_digest(answer)
            if named is not None and not matches(answer.data, named):
                raise _other_digest(digest, named, answer)
        header = answer.headers.get("content-type", "").partition(";")[0].strip()
        media_type = manifest_type(answer.data, header, where=where)
        return StoredManifest(media_type=media_type, digest=digest, data=answer.data)

    def _first(self, read: Callable[[Place], StoredManifest], *, by_tag: bool) -> StoredManifest:
        for place in self._mirrors:
            if place.by_digest_only and by_tag:
                continue
            try:
                return read(place)
            except (RegistryError, ImageError):
                continue
        return read(self._own)

    def _reading(self, place: Place, method: str, path: str, doing: str) -> Request:
        # One token for all that a push asks and writes.
        actions = ("pull", "push") if self._writing and place is self._own else ("pull",)
        url = path if path.startswith(("/", "http:", "https:")) else f"/v2/{place.path}/{path}"
        return Request(
            method=method,
            url=url,
            doing=doing,
            scopes=place.scopes(*actions),
            headers={"Accept": ACCEPT} if "/manifests/" in url else {},
        )

    def _writing_request(self, method: str, path: str, doing: str, **more: Any) -> Request:
        return Request(
            method=method,
            url=f"/v2/{self._own.path}/{path}",
            doing=doing,
            scopes=self._own.scopes("pull", "push"),
            **more,
        )

    def _delete(self, path: str, doing: str) -> None:
        request = Request(
            method="DELETE",
            url=f"/v2/{self._own.path}/{path}",
            doing=f"{doing} of {self}",
            scopes=self._own.scopes("delete", "pull"),
        )
        answer = self._own.connection.ask(request, good=(202, 200, 204, 405))
        assert answer is not None
        if answer.status == 405:
            raise RegistryError(
                "the registry doesn't allow deleting that",
                where=shown_url(answer.url),
                hint="Its owner can allow it; Docker's own registry needs "
                "REGISTRY_STORAGE_DELETE_ENABLED=true, and deletes by digest only.",
            )

    def _upload(self, descriptor: Descriptor) -> BlobUpload:
        return BlobUpload(
            connection=self._own.connection,
            path=self._own.path,
            name=str(self),
            descriptor=descriptor,
            cache=self._cache,
        )


def _is_tag(which: str | Digest) -> bool:
    return not isinstance(which, Digest)


def _as(which: str | Digest) -> str:
    return f":{which}" if _is_tag(which) else f"@{which}"


def _named_digest(answer: Answer) -> Digest | None:
    text = answer.headers.get("docker-content-digest")
    if not text:
        return None
    try:
        return Digest.parse(text)
    except ImageError as error:
        raise RegistryError(
            "the registry names something else than a digest", where=shown_url(answer.url)
        ) from error


def _other_digest(found: Digest, expected: Digest, answer: Answer) -> RegistryError:
    return RegistryError(
        f"the registry gives {found} where {expected} was expected",
        where=shown_url(answer.url),
        hint="A proxy may answer in its place, or the registry is damaged; try again, "
        "and tell its owner if it stays so.",
    )


def _json(answer: Answer) -> dict[str, Any]:
    where = shown_url(answer.url)
    return parse(answer.data, where=where, most=_LIST)


def _next_page(answer: Answer, seen: set[str]) -> str | None:
    """The Link header's rel="next" (RFC 8288), on the registry only; None at the end."""
    from urllib.parse import urljoin, urlsplit

    text: str = answer.headers.get("link", "")
    target, _, params = text.partition(">")
    if not target.startswith("<") or "next" not in params:
        return None
    url = urljoin(answer.url, target[1:])
    parts = urlsplit(url)
    if parts.netloc != urlsplit(answer.url).netloc or url in seen:
        raise RegistryError(
            "the registry's next page is the same page again, or elsewhere",
            where=shown_url(answer.url),
        )
    seen.add(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
