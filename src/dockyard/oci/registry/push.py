"""Into a registry: images made here, images of a folder, images of another registry.

Rules:
- Blobs first, several at once; then each manifest by its digest; the tag last. A reader never sees
  half an image, and a push that was interrupted finds what is there and goes on.
- A manifest that the repository has already is believed to have its blobs there.
- A blob is asked for, then mounted from a repository of the same registry that is known to have
  it, then uploaded, streamed from where it is (a recipe, a file, another registry).
- Which repositories have a blob is learnt: from the caller, from where a layer was read, and from
  earlier pushes and pulls of this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.descriptor import OCI_INDEX
from dockyard.oci.layer import BytesBlob
from dockyard.oci.layout import image_index
from dockyard.oci.registry.api import Absent, FromRepository, StoredManifest
from dockyard.oci.registry.known import KnownPlaces
from dockyard.oci.registry.parallel import run_parallel
from dockyard.oci.registry.tree import blobs_of, manifests_below
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dockyard.cache import Cache
    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image
    from dockyard.oci.layer import Blob
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Placed, Registries, Repository, Source
    from dockyard.progress import Reporter

PARALLEL = 4
_WORTH_SHOWING = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push came to: the manifest or index that is there now, and what became of each blob.

    sizes are bytes, by what was done: "there", "mounted", "uploaded".
    """

    descriptor: Descriptor
    blobs: Mapping[Digest, Placed]
    sizes: Mapping[Placed, int]

    def count(self, placed: Placed) -> int:
        """How many blobs came to be there in this way."""
        return sum(1 for each in self.blobs.values() if each == placed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesSource:
    """Images as a source: one by itself, several under an index."""

    root: StoredManifest
    manifests: Mapping[Digest, StoredManifest]
    blobs: Mapping[Digest, Blob]

    @classmethod
    def of(cls, images: Sequence[Image]) -> ImagesSource:
        """Take the images of all platforms; raises ImageError when two are for one platform."""
        if len({image.platform for image in images}) != len(images) or not images:
            raise ImageError("an index takes one image for each platform")
        manifests = [StoredManifest.of(image.manifest_bytes, image.family) for image in images]
        blobs: dict[Digest, Blob] = {}
        for image in images:
            blobs[image.manifest.config.digest] = BytesBlob(data=image.config_bytes)
            blobs |= {layer.descriptor.digest: layer.blob for layer in image.layers}
        root = manifests[0]
        if len(images) > 1:
            root = StoredManifest.of(image_index(images).to_bytes(), OCI_INDEX)
        return cls(
            root=root, manifests={stored.digest: stored for stored in manifests}, blobs=blobs
        )

    def manifest(self, which: str | Digest) -> StoredManifest:
        """The image's manifest with this digest."""
        for digest, stored in self.manifests.items():
            if digest == which:
                return stored
        raise Absent(f"there is no manifest {which}")

    def blob(self, descriptor: Descriptor) -> Blob:
        """The layer or configuration with this digest."""
        return self.blobs[descriptor.digest]


def push_images(
    images: Sequence[Image],
    repository: Repository,
    *,
    tags: Sequence[str] = (),
    mounts: Mapping[Digest, Sequence[str]] | None = None,
    titles: Mapping[Digest, str] | None = None,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
    parallel: int = PARALLEL,
) -> Pushed:
    """Push the image, of one platform or several, under these tags (none: by digest only).

    mounts: paths of the same registry's repositories that have a blob; titles: what a user calls
    one, for progress. cache remembers which repositories have it. Raises RegistryError and
    ImageError; then no tag was moved.
    """
    source = ImagesSource.of(images)
    return push_tree(
        source,
        source.root,
        repository,
        tags=tags,
        mounts=mounts,
        titles=titles,
        cache=cache,
        reporter=reporter,
        parallel=parallel,
    )


def push_tree(
    source: Source,
    root: StoredManifest,
    repository: Repository,
    *,
    tags: Sequence[str] = (),
    mounts: Mapping[Digest, Sequence[str]] | None = None,
    titles: Mapping[Digest, str] | None = None,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
    parallel: int = PARALLEL,
) -> Pushed:
    """Push a manifest or index and all below it, byte for byte, from any source.

    The rest is as in `push_images`.
    """
    manifests = manifests_below(source, root)
    missing = [stored for stored in manifests if repository.head(stored.digest) is None]
    wanted: dict[Digest, Descriptor] = {}
    for stored in missing:
        wanted |= {each.digest: each for each in blobs_of(stored)}
    known = KnownPlaces(cache)
    placing = _Placing(
        source=source,
        repository=repository,
        mounts=mounts or {},
        titles=titles or {},
        known=known,
        reporter=reporter,
    )
    # Large ones first: the last to end shouldn't be the longest.
    order = sorted(wanted.values(), key=lambda each: -each.size)
    placed = run_parallel(placing.place, order, parallel=parallel, stop=repository.stop)
    for stored in missing:
        if stored.digest != root.digest:
            repository.put_manifest(stored)
    if not tags and root in missing:
        repository.put_manifest(root)
    for tag in tags:
        repository.put_manifest(root, tag=tag)
    known.learn(repository, list(wanted))
    blobs = dict(zip((each.digest for each in order), placed, strict=True))
    sizes: dict[Placed, int] = {"there": 0, "mounted": 0, "uploaded": 0}
    for each in order:
        sizes[blobs[each.digest]] += each.size
    return Pushed(descriptor=root.descriptor, blobs=blobs, sizes=sizes)


def push_references(
    registries: Registries,
    source: Source,
    root: StoredManifest,
    references: Sequence[Reference],
    *,
    mounts: Mapping[Digest, Sequence[str]] | None = None,
    titles: Mapping[Digest, str] | None = None,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
) -> list[Pushed]:
    """Push one tree under these references; one result for each repository among them.

    The rest is as in `push_images`. Raises ImageError for a reference with another digest.
    """
    places: dict[str, list[Reference]] = {}
    for reference in references:
        if reference.digest not in (None, root.digest):
            raise ImageError(
                f"the image has the digest {root.digest}, not {reference.digest}",
                where=str(reference),
                hint="Name a tag to push to, or leave the digest out.",
            )
        places.setdefault(reference.repository, []).append(reference)
    return [
        push_tree(
            source,
            root,
            registries.repository(same[0]),
            tags=[reference.tag for reference in same if reference.tag is not None],
            mounts=mounts,
            titles=titles,
            cache=cache,
            reporter=reporter,
        )
        for same in places.values()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placing:
    """Sees one blob after another into the repository; called from several threads."""

    source: Source
    repository: Repository
    mounts: Mapping[Digest, Sequence[str]]
    titles: Mapping[Digest, str]
    known: KnownPlaces
    reporter: Reporter

    def place(self, descriptor: Descriptor) -> Placed:
        blob = self.source.blob(descriptor)
        candidates = [*self.mounts.get(descriptor.digest, ())]
        if isinstance(blob, FromRepository) and blob.repository.domain == self.repository.domain:
            candidates.append(blob.repository.path)
        candidates += self.known.of(self.repository.domain, descriptor.digest)
        title = self.titles.get(descriptor.digest, descriptor.digest.hex[:12])
        progress = _Progress(self.reporter, f"Pushing {title}", descriptor.size)
        try:
            return self.repository.put_blob(
                descriptor,
                blob,
                mount_from=list(dict.fromkeys(candidates)),
                advance=progress.advance,
            )
        finally:
            progress.close()


class _Progress:
    """A bar that appears when the first bytes of a blob worth showing are sent."""

    def __init__(self, reporter: Reporter, text: str, size: int) -> None:
        self._reporter = reporter if size >= _WORTH_SHOWING else SILENT
        self._text = text
        self._size = size
        self._advance: Callable[[int], None] | None = None
        self._leave: Callable[[None, None, None], object] | None = None

    def advance(self, amount: int) -> None:
        if self._advance is None:
            context = self._reporter.task(self._text, total=self._size)
            self._advance = context.__enter__().advance
            self._leave = context.__exit__
        self._advance(amount)

    def close(self) -> None:
        if self._leave is not None:
            self._leave(None, None, None)
