"""OCI image layouts (image-spec image-layout.md): a folder that holds images.

Rules:
- Blobs come first, each written under a temporary name and renamed when whole; index.json comes
  last and in one step. A reader, or a crash, never sees an image without its blobs.
- A layout that is there is extended: blobs it has aren't written again, other names stay, the
  same name is replaced. Two writers take turns (flock).
- Reading is lazy: layers are opened when their bytes are asked for; sizes are checked at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.descriptor import DOCKER_CONFIG, OCI_CONFIG, Descriptor
from dockyard.oci.digest import Digest, matches
from dockyard.oci.documents import MAX_SIZE, canonical, parse
from dockyard.oci.image import Image, read_image
from dockyard.oci.layer import BlobFile, BytesBlob
from dockyard.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, Index
from dockyard.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dockyard.oci.layer import Blob

LAYOUT_FILE = canonical({"imageLayoutVersion": "1.0.0"})
_DOCUMENTS = frozenset((*MANIFEST_TYPES, *INDEX_TYPES, OCI_CONFIG, DOCKER_CONFIG))
REF_NAME = "org.opencontainers.image.ref.name"


def write_layout(
    images: Image | Sequence[Image],
    folder: Path,
    *,
    reference_name: str | None = None,
    advance: Callable[[int], None] = lambda amount: None,
) -> Descriptor:
    """Add one image, or one for each platform, to the layout in `folder`, which is made if absent.

    reference_name is what `read_layout` and skopeo find it by. advance is told the compressed
    bytes of layers as they are written or found. Returns what index.json says of it: a manifest,
    or, for several images, an index of theirs.
    """
    images = (images,) if isinstance(images, Image) else tuple(images)
    blobs: list[tuple[Descriptor, Blob]] = []
    for image in images:
        blobs += [(layer.descriptor, layer.blob) for layer in image.layers]
        blobs.append((image.manifest.config, BytesBlob(data=image.config_bytes)))
        blobs.append((image.descriptor, BytesBlob(data=image.manifest_bytes)))
    entry = images[0].descriptor
    if len(images) > 1:
        data = image_index(images).to_bytes()
        entry = Descriptor(media_type=INDEX_TYPES[0], digest=Digest.of(data), size=len(data))
        blobs.append((entry, BytesBlob(data=data)))
    return add_tree(folder, entry, blobs, reference_name=reference_name, advance=advance)


def add_tree(
    folder: Path,
    entry: Descriptor,
    blobs: Iterable[tuple[Descriptor, Blob]],
    *,
    reference_name: str | None,
    advance: Callable[[int], None],
) -> Descriptor:
    """Add these blobs to the layout, and then the entry; returns what index.json says of it.

    advance is told the bytes of what isn't a document.
    """
    try:
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        with _turn(folder):
            for descriptor, blob in blobs:
                if descriptor.media_type in _DOCUMENTS:
                    _write_blob(folder, descriptor, blob)
                else:
                    _write_blob(folder, descriptor, blob, advance)
            if reference_name is not None:
                entry = replace(entry, annotations={REF_NAME: reference_name})
            _write_whole(folder / "oci-layout", LAYOUT_FILE)
            _add_to_index(folder, entry)
    except OSError as error:
        raise ImageError(
            f"the image layout can't be written: {error.strerror}",
            where=str(folder),
            hint="Check that the folder is writable and its disk has room.",
        ) from error
    return entry


def image_index(images: Sequence[Image]) -> Index:
    """The index that makes one image of those for several platforms."""
    return Index(manifests=tuple(image.descriptor for image in images))


def read_layout(
    folder: Path, name: str | None = None, *, platform: Platform | None = None
) -> Image:
    """Open an image of the layout: the one called `name`, or its only one.

    platform (this machine's by default) chooses where there are several. Raises ImageError when
    there is no such image, or what is there breaks the specification.
    """
    index = read_index(folder)
    return choose_image(
        index,
        lambda descriptor: layout_blob(folder, descriptor),
        name=name,
        platform=platform,
        where=str(folder),
    )


def read_index(folder: Path) -> Index:
    """The layout's index.json; raises ImageError when the folder is no layout."""
    version = parse(_read(folder / "oci-layout"), where=str(folder / "oci-layout"))
    if version.get("imageLayoutVersion") != "1.0.0":
        raise ImageError("the folder is no OCI image layout of version 1.0.0", where=str(folder))
    return Index.from_bytes(_read(folder / "index.json"), where=str(folder / "index.json"))


def layout_blob(folder: Path, descriptor: Descriptor) -> BlobFile:
    """A blob of the layout; raises ImageError when it is absent or has another size."""
    path = folder / "blobs" / descriptor.digest.algorithm / descriptor.digest.hex
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ImageError("the layout lacks a blob", where=str(path)) from error
    if size != descriptor.size:
        raise ImageError(f"the blob has {size} bytes, not {descriptor.size}", where=str(path))
    return BlobFile(path=path, size=size)


def choose_image(
    index: Index,
    blob: Callable[[Descriptor], Blob],
    *,
    name: str | None,
    platform: Platform | None,
    where: str,
) -> Image:
    """Follow a layout's index to one image; the rules are those of `read_layout`."""
    entries = index.manifests
    if name is not None:
        entries = tuple(entry for entry in entries if entry.annotations.get(REF_NAME) == name)
        if not entries:
            names = sorted(
                {entry.annotations[REF_NAME] for entry in index.manifests}
                if all(REF_NAME in entry.annotations for entry in index.manifests)
                else set()
            )
            raise ImageError(
                f"there is no image called {name!r}",
                where=where,
                hint=f"There are: {', '.join(names)}." if names else None,
            )
    wanted = platform or Platform.host()
    for _ in range(4):  # an index may hold indexes; deeper nesting is nobody's honest work
        if len({entry.digest for entry in entries}) > 1:
            entries = Index(manifests=entries).select(wanted)
        if not entries:
            raise ImageError(f"there is no image for {wanted}", where=where)
        if len({entry.digest for entry in entries}) > 1:
            raise ImageError(
                "there are several images", where=where, hint="Say which one by its name."
            )
        data = _document(entries[0], blob)
        if entries[0].media_type not in INDEX_TYPES:
            break
        # Attestations are manifests for the platform unknown/unknown; they are never chosen.
        entries = tuple(
            entry
            for entry in Index.from_bytes(data, where=where).manifests
            if (entry.platform or {}).get("os") != "unknown"
        )
    else:
        raise ImageError("the indexes are nested too deep", where=where)
    manifest = parse(data, where=where)
    config = _document(Descriptor.from_json(manifest.get("config"), where=where), blob)
    image = read_image(data, config, blob, where=where)
    if platform is not None and image.platform != platform:
        raise ImageError(f"the image is for {image.platform}, not {platform}", where=where)
    return image


def _document(descriptor: Descriptor, blob: Callable[[Descriptor], Blob]) -> bytes:
    if descriptor.size > MAX_SIZE:
        raise ImageError("the document is larger than 4 MiB", where=str(descriptor.digest))
    data = b"".join(blob(descriptor).chunks())
    if not matches(data, descriptor.digest):
        raise ImageError("the bytes don't have their digest", where=str(descriptor.digest))
    return data


def _add_to_index(folder: Path, entry: Descriptor) -> None:
    path = folder / "index.json"
    index = Index(manifests=())
    if path.exists():
        index = Index.from_bytes(_read(path), where=str(path))
    name = entry.annotations.get(REF_NAME)
    kept = tuple(
        other
        for other in index.manifests
        if (name is None or other.annotations.get(REF_NAME) != name)
        and not (other.digest == entry.digest and other.annotations == entry.annotations)
    )
    _write_whole(path, replace(index, manifests=(*kept, entry)).to_bytes())


def _write_blob(
    folder: Path,
    descriptor: Descriptor,
    blob: Blob,
    advance: Callable[[int], None] = lambda amount: None,
) -> None:
    path = folder / "blobs" / descriptor.digest.algorithm / descriptor.digest.hex
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == descriptor.size:
            advance(descriptor.size)
            return
    path.parent.mkdir(exist_ok=True)
    with _new_file(path) as temporary:
        size = 0
        with temporary.open("wb") as file:
            for chunk in blob.chunks():
                size += len(chunk)
                file.write(chunk)
                advance(len(chunk))
        if size != descriptor.size:
            raise ImageError(
                f"a blob gave {size} bytes instead of {descriptor.size}",
                where=str(descriptor.digest),
            )


def _write_whole(path: Path, data: bytes) -> None:
    with _new_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name; on leaving without error it becomes `path`, readable by all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"this is no OCI image layout: {path.name} can't be read ({error.strerror})",
            where=str(path.parent),
        ) from error
