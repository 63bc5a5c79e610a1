"""Out of a registry: an image whose layers come when their bytes are wanted, or all at once.

Rules:
- `fetch_image` reads manifest and config only. Its layers know where they are: pushing them to the
  registry that they are from moves no byte of them.
- `pull_layers` brings layers into the cache, several at once; what was begun goes on where it
  stopped, also in another process, and nothing enters the cache without its digest.
- Bytes that came from a mirror and are wrong are fetched once more from the registry itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.fetch.partial import Partial
from dockyard.oci.documents import MAX_SIZE
from dockyard.oci.image import Image, read_image
from dockyard.oci.layer import BlobFile
from dockyard.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, Index, Manifest
from dockyard.oci.platform import Platform
from dockyard.oci.registry.api import wanted
from dockyard.oci.registry.downloads import RemoteBlob, wrong_blob
from dockyard.oci.registry.known import KnownPlaces
from dockyard.oci.registry.parallel import run_parallel
from dockyard.oci.registry.push import PARALLEL
from dockyard.oci.registry.refusals import fit
from dockyard.oci.registry.tree import DEEPEST
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.digest import Digest
    from dockyard.oci.layer import Layer
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Registries, Source, StoredManifest
    from dockyard.progress import Reporter

_WORTH_SHOWING = 256 << 10


def fetch_image(
    registries: Registries, reference: Reference, platform: Platform | None = None
) -> Image:
    """The image that the reference names, for this platform (this machine's, if None).

    Raises Absent or RegistryError, and ImageError when what is there breaks its specification or
    isn't for the platform. Its digest is that of the platform's manifest; `fetch_root` has the
    index's.
    """
    repository = registries.repository(reference)
    root = repository.manifest(wanted(reference))
    return choose_platform(repository, root, platform, where=str(reference))


def fetch_root(registries: Registries, reference: Reference) -> StoredManifest:
    """The manifest or index that the reference names, as it is."""
    return registries.repository(reference).manifest(wanted(reference))


def choose_platform(
    source: Source, root: StoredManifest, platform: Platform | None, *, where: str
) -> Image:
    """Follow indexes down to the image for the platform, and read its documents."""
    fitting = platform or Platform.host()
    stored = root
    for _ in range(DEEPEST):
        if stored.media_type not in INDEX_TYPES:
            break
        index = Index.from_bytes(stored.data, where=where)
        entries = Index(manifests=tuple(each for each in index.manifests if _is_image(each)))
        chosen = entries.select(fitting)
        if not chosen:
            raise ImageError(
                f"there is no image for {fitting}",
                where=where,
                hint=f"There are images for {_platforms(entries)}; choose with --platform.",
            )
        stored = source.manifest(chosen[0].digest)
    else:
        raise ImageError("the indexes are nested too deep", where=where)
    manifest = Manifest.from_bytes(stored.data, where=where)
    if manifest.config.size > MAX_SIZE:
        raise ImageError("the image's configuration is larger than 4 MiB", where=where)
    config = b"".join(source.blob(manifest.config).chunks())
    data = stored.data
    image = read_image(data, config, source.blob, where=where, media_type=stored.media_type)
    if platform is not None and image.platform != platform:
        raise ImageError(
            f"the image is for {image.platform}, not {platform}",
            where=where,
            hint=f"Choose it with --platform {image.platform}, if that is what you want.",
        )
    return image


def _is_image(each: Descriptor) -> bool:
    """Whether an index's entry may be an image; attestations are for unknown/unknown."""
    return each.media_type in MANIFEST_TYPES + INDEX_TYPES and (
        each.platform is None or each.platform.get("os") != "unknown"
    )


def _platforms(index: Index) -> str:
    names = [
        "/".join(str(each.platform.get(key)) for key in ("os", "architecture"))
        for each in index.manifests
        if each.platform is not None
    ]
    return fit(", ".join(dict.fromkeys(names[:20])), ()) or "no platform that is named"


def pull_layers(
    image: Image,
    cache: Cache,
    *,
    skip: Collection[Digest] = (),
    titles: Mapping[Digest, str] | None = None,
    reporter: Reporter = SILENT,
    parallel: int = PARALLEL,
) -> Image:
    """The image with its layers' bytes in the cache, but those whose diff ID is in skip.

    titles: what a user calls a layer, by its blob's digest, for progress. Layers that aren't from a
    registry stay as they are. Raises RegistryError, CacheError.
    """
    remote = [
        layer
        for layer in {layer.descriptor.digest: layer for layer in image.layers}.values()
        if isinstance(layer.blob, RemoteBlob)
        and layer.diff_id not in skip
        and layer.descriptor.digest.algorithm == "sha256"
    ]
    if not remote:
        return image
    remote.sort(key=lambda layer: -layer.descriptor.size)
    blob = remote[0].blob
    assert isinstance(blob, RemoteBlob)
    paths = run_parallel(
        lambda layer: _pull(layer, cache, titles or {}, reporter),
        remote,
        parallel=parallel,
        stop=blob.repository.stop,
    )
    KnownPlaces(cache).learn(blob.repository, [layer.descriptor.digest for layer in remote])
    here = {layer.descriptor.digest: path for layer, path in zip(remote, paths, strict=True)}
    layers = tuple(
        replace(layer, blob=BlobFile(path=here[layer.descriptor.digest]))
        if layer.descriptor.digest in here
        else layer
        for layer in image.layers
    )
    return replace(image, layers=layers)


def _pull(layer: Layer, cache: Cache, titles: Mapping[Digest, str], reporter: Reporter) -> Path:
    blob = layer.blob
    assert isinstance(blob, RemoteBlob)
    return pull_blob(blob, cache, reporter, title=titles.get(layer.descriptor.digest))


def pull_blob(
    blob: RemoteBlob, cache: Cache, reporter: Reporter = SILENT, *, title: str | None = None
) -> Path:
    """The blob's file in the cache, downloaded now if it isn't there.

    title: what a user calls it, for progress.
    """
    descriptor = blob.descriptor
    sha256 = descriptor.digest.hex
    with cache.lock(f"fetch:{sha256}"):
        if cache.has_blob(sha256):
            return cache.blob_path(sha256)
        shown = reporter if descriptor.size >= _WORTH_SHOWING else SILENT
        text = f"Pulling {title or sha256[:12]}"
        with (
            Partial.open(cache, sha256) as partial,
            shown.task(text, total=descriptor.size) as task,
        ):
            resumed = partial.size > 0
            if partial.size > descriptor.size:
                partial.restart({})
            ways = len(blob.repository.blob_requests(descriptor.digest))
            # A first half of another download, or a mirror, may be wrong: once more without.
            for past in (0, ways - 1):
                for chunk in blob.chunks_from(partial.size, past=past):
                    partial.write(chunk)
                    partial.report(task)
                found = partial.hexdigest
                if found == sha256:
                    return partial.finish(sha256)
                partial.restart({})
                if past == ways - 1 and not resumed:
                    break
                resumed = False
            raise wrong_blob(descriptor, found, str(blob.repository))
