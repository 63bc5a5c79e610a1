"""Artifacts: documents of another kind than images, kept in a registry under a tag or a subject.

    {"artifactType": …, "config": {} (empty), "layers": [the documents], "annotations": …}

Rules:
- Written as image-spec manifest.md, "Guidelines for Artifact Usage" has it: an image manifest with
  an artifactType, an empty config, and one layer for each document.
- With a subject, an artifact is found by `referrers`; where the registry has no such API, the
  list under the subject's tag is kept by who pushes ("Referrers Tag Schema").
- A document is read only if the manifest's artifactType is the one that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.descriptor import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.layer import BytesBlob
from dockyard.oci.manifest import Index, Manifest
from dockyard.oci.registry.api import Absent, StoredManifest, referrers_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.oci.registry.api import Repository

EMPTY = b"{}"
MOST = 64 << 20  # bytes of one document


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """documents: media type and bytes of each; subject: the manifest that it is about."""

    artifact_type: str
    documents: tuple[tuple[str, bytes], ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None


def push_artifact(
    artifact: Artifact, repository: Repository, *, tag: str | None = None
) -> Descriptor:
    """Store an artifact, under its digest and the tag; raises RegistryError."""
    empty = Descriptor(media_type=OCI_EMPTY, digest=Digest.of(EMPTY), size=len(EMPTY))
    layers = tuple(
        Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))
        for media_type, data in artifact.documents
    )
    # image-spec manifest.md: layers must have an entry, the empty one if there is nothing.
    manifest = Manifest(
        config=empty,
        layers=layers or (empty,),
        annotations=artifact.annotations,
        artifact_type=artifact.artifact_type,
        subject=artifact.subject,
    )
    repository.put_blob(empty, BytesBlob(data=EMPTY))
    for layer, (_, data) in zip(layers, artifact.documents, strict=True):
        repository.put_blob(layer, BytesBlob(data=data))
    stored = StoredManifest.of(manifest.to_bytes(), OCI_MANIFEST)
    repository.put_manifest(stored, tag=tag)
    if artifact.subject is not None:
        entry = replace(
            stored.descriptor,
            artifact_type=artifact.artifact_type,
            annotations=artifact.annotations,
        )
        _list_under_subject(repository, artifact.subject.digest, entry)
    return stored.descriptor


def fetch_artifact(
    repository: Repository, which: str | Digest, *, artifact_type: str
) -> Artifact | None:
    """The artifact with this tag or digest; None when there is none.

    Raises ImageError when what is there is of another type, or its documents are too large.
    """
    try:
        stored = repository.manifest(which)
    except Absent:
        return None
    where = f"{repository.domain}/{repository.path}, {which}"
    manifest = Manifest.from_bytes(stored.data, where=where)
    found = manifest.artifact_type or manifest.config.media_type
    if found != artifact_type:
        raise ImageError(f"the artifact is a {found[:100]!r}, not a {artifact_type!r}", where=where)
    documents = []
    for layer in manifest.layers:
        if layer.media_type == OCI_EMPTY:
            continue
        if layer.size > MOST:
            raise ImageError(f"a document is larger than {MOST >> 20} MiB", where=where)
        documents.append((layer.media_type, b"".join(repository.blob(layer).chunks())))
    return Artifact(
        artifact_type=found,
        documents=tuple(documents),
        annotations=manifest.annotations,
        subject=manifest.subject,
    )


def _list_under_subject(repository: Repository, subject: Digest, entry: Descriptor) -> None:
    """Where the registry doesn't list the artifact by itself, do it for it."""
    if any(each.digest == entry.digest for each in repository.referrers(subject)):
        return
    tag = referrers_tag(subject)
    try:
        stored = repository.manifest(tag)
        index = Index.from_bytes(stored.data, where=tag)
    except Absent:
        index = Index(manifests=())
    kept = tuple(each for each in index.manifests if each.digest != entry.digest)
    data = replace(index, manifests=(*kept, entry), media_type=OCI_INDEX).to_bytes()
    repository.put_manifest(StoredManifest.of(data, OCI_INDEX), tag=tag)
