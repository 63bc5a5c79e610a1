"""The layer index: layers that a registry has already, found by what they are made of.

A build that goes to a registry asks there before it fetches or packs anything. A layer that is
known is mounted, and its wheels are neither downloaded nor packed. What a build packs itself is
entered afterwards, for the next machine.

Rules:
- The index is a repository in the image's own namespace, `layers` by default; see `layer_entry`
  for what is in it. It is a cache: without it, or without the right to read it, all is made here.
- An entry counts only if it is for the very inputs (its key is their hash) and the registry has the
  layer. Where this machine has made the layer itself and the entry names another, the entry isn't
  used, and said to be wrong.
- What the registry says of a layer's content can only be checked by making the layer again:
  `dockyard verify --rebuild`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dockyard.build.layer_entry import (
    EMPTY,
    FILES,
    LayerEntry,
    entry_tag,
    read_entry,
    read_files,
    write_entry,
    write_files,
)
from dockyard.errors import ImageError, RegistryError
from dockyard.oci.descriptor import OCI_EMPTY, OCI_MANIFEST, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.registry.api import Absent, Denied, StoredManifest
from dockyard.oci.registry.artifact import Artifact, fetch_artifact, push_artifact
from dockyard.oci.registry.parallel import run_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dockyard.build.pack import LayerJob
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Repository
    from dockyard.progress import Reporter
    from dockyard.wheels.clash import FileClaims

T = TypeVar("T")
R = TypeVar("R")

_PARALLEL = 8
_FACTS = "application/vnd.dockyard.base.v1"
_FACTS_DOCUMENT = "application/vnd.dockyard.base.v1+json"


def index_path(name: str, image: Reference) -> str:
    """The index's repository on the image's registry.

    name: the configuration's `layer-index`; without a slash it is in the image's own namespace.
    """
    namespace = image.path.rpartition("/")[0]
    return f"{namespace}/{name}" if namespace and "/" not in name else name


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerIndex:
    """The index of one registry namespace."""

    repository: Repository
    reporter: Reporter

    @property
    def name(self) -> str:
        """The repository, as people write it."""
        return f"{self.repository.domain}/{self.repository.path}"

    def look_up(self, jobs: Sequence[LayerJob], here: Mapping[str, Layer]) -> dict[str, LayerEntry]:
        """The entries for these layers, by key; here: those that this machine has made, by key.

        Raises RegistryError when the registry can't be asked at all.
        """
        wanted = [job for job in jobs if job.inputs is not None]
        if not wanted:
            return {}
        try:
            found = self._all(lambda job: self._entry(job, here.get(job.key)), wanted)
        except Denied as error:
            self.reporter.warn(f"the layer index {self.name} isn't used: {error.what}")
            return {}
        pairs = zip(wanted, found, strict=True)
        return {job.key: entry for job, entry in pairs if entry is not None}

    def _entry(self, job: LayerJob, mine: Layer | None) -> LayerEntry | None:
        tag = entry_tag(job.kind, job.key)
        try:
            stored = self.repository.manifest(tag)
        except Absent:
            return None
        try:
            entry = read_entry(stored.data, key=job.key, where=f"{self.name}:{tag}")
        except ImageError as error:
            self.reporter.warn(
                f"an entry of the layer index isn't used: {error.where}: {error.what}"
            )
            return None
        if mine is not None:
            if mine.descriptor.digest != entry.descriptor.digest or mine.diff_id != entry.diff_id:
                self.reporter.warn(
                    f"the layer index {self.name} has another layer for {job.title} than this "
                    f"machine has made; it isn't used (tag {tag})"
                )
            return entry
        return entry if self.repository.has_blob(entry.descriptor.digest) else None

    def layer(self, entry: LayerEntry, *, created_by: str) -> Layer:
        """The layer of an entry; its bytes are read from the registry if they are wanted."""
        return Layer(
            descriptor=entry.descriptor,
            diff_id=entry.diff_id,
            uncompressed_size=entry.size or None,
            blob=self.repository.blob(entry.descriptor),
            created_by=created_by,
        )

    def claims(self, entries: Sequence[LayerEntry]) -> list[FileClaims]:
        """The files of the wheels in these layers; raises ImageError when a list is damaged."""
        wanted = [entry.files for entry in entries if entry.files is not None]
        lists = self._all(self._claims, wanted)
        return [claims for each in lists for claims in each]

    def _claims(self, files: Descriptor) -> list[FileClaims]:
        data = b"".join(self.repository.blob(files).chunks())
        return read_files(data, where=f"{self.name}@{files.digest}")

    def add(self, made: Sequence[tuple[LayerJob, Layer]], *, from_path: str) -> None:
        """Enter layers that are in another repository, `from_path`, of the registry by now."""
        if not made:
            return
        try:
            with self.reporter.task(f"Entering {len(made)} layers into {self.name}"):
                self._put_bytes(OCI_EMPTY, EMPTY)
                self._all(lambda each: self._add(*each, from_path), made)
        except RegistryError as error:
            self.reporter.warn(
                f"the image is pushed, but its layers couldn't be entered into the layer index "
                f"{self.name}: {error.what}. Set layer-index to a repository that may be written, "
                "or to false."
            )

    def _add(self, job: LayerJob, layer: Layer, from_path: str) -> None:
        self.repository.put_blob(layer.descriptor, layer.blob, mount_from=[from_path])
        files = None
        if job.claims is not None:
            files = self._put_bytes(FILES, write_files(job.claims()))
        assert job.inputs is not None
        manifest = write_entry(layer, inputs=job.inputs, files=files)
        self.repository.put_manifest(
            StoredManifest.of(manifest.to_bytes(), OCI_MANIFEST), tag=entry_tag(job.kind, job.key)
        )

    def _put_bytes(self, media_type: str, data: bytes) -> Descriptor:
        descriptor = Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))
        self.repository.put_blob(descriptor, BytesBlob(data=data))
        return descriptor

    def base_facts(self, key: str) -> bytes | None:
        """What another machine read out of a base image; None where nobody has."""
        try:
            found = fetch_artifact(self.repository, entry_tag("facts", key), artifact_type=_FACTS)
        except (Denied, ImageError):
            return None
        return found.documents[0][1] if found is not None and found.documents else None

    def add_base_facts(self, key: str, facts: bytes) -> None:
        """Enter what was read out of a base image."""
        artifact = Artifact(artifact_type=_FACTS, documents=((_FACTS_DOCUMENT, facts),))
        try:
            push_artifact(artifact, self.repository, tag=entry_tag("facts", key))
        except RegistryError as error:
            self.reporter.note(f"{self.name} doesn't keep what was read of the base: {error.what}")

    def _all(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        return run_parallel(work, items, parallel=_PARALLEL, stop=self.repository.stop)
