"""Images that are pushed and copied as they are: with all platforms, wherever they lie.

Rules: "oci:DIR", "oci:DIR:NAME" and "archive:FILE" are files; anything else is a name, in the
engine for `push`, in a registry for `copy`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dockyard.cache import Cache
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.oci.registry.api import Registries, Source, StoredManifest
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A manifest or index, and where all below it can be read.

    where: for messages; titles: what a user calls a blob, as far as that is known.
    """

    source: Source
    root: StoredManifest
    where: str
    titles: Mapping[Digest, str] = field(default_factory=dict)

    def image(self, platform: Platform | None) -> Image:
        """The image for one platform, this machine's if None."""
        from dockyard.oci.registry.pull import choose_platform

        return choose_platform(self.source, self.root, platform, where=self.where)

    def only(self, platform: Platform | None) -> Tree:
        """The tree of one platform's image; all of it, if None."""
        if platform is None:
            return self
        from dockyard.oci.registry.api import StoredManifest

        image = self.image(platform)
        root = StoredManifest.of(image.manifest_bytes, image.family)
        return replace(self, root=root)


def is_file_name(text: str) -> bool:
    """Whether the text names a layout or an archive."""
    return text.startswith(("oci:", "archive:"))


@contextmanager
def local_tree(
    text: str, platform: Platform | None, cache: Cache, reporter: Reporter
) -> Iterator[Tree]:
    """Yield what is to be pushed from this machine: a file's image, or one of the engine."""
    if is_file_name(text):
        yield _file_tree(text).only(platform)
        return
    from dockyard.build.built_images import recall_image
    from dockyard.cli.source import readable_image
    from dockyard.engine.connect import find_engine
    from dockyard.oci.compressed import with_compressed_layers

    found = find_engine().image(text)
    built = recall_image(found.id, cache) if found is not None else None
    if built is not None:
        yield _image_tree(built, text).only(platform)
        return
    with readable_image(text, reporter) as image:
        yield _image_tree(with_compressed_layers(image, cache, reporter=reporter), text).only(
            platform
        )


def registry_tree(text: str, platform: Platform | None, registries: Registries) -> Tree:
    """What a registry has under this reference."""
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import wanted

    reference = Reference.parse(text)
    repository = registries.repository(reference)
    root = repository.manifest(wanted(reference))
    return Tree(source=repository, root=root, where=str(reference)).only(platform)


def write_file(
    tree: Tree, target: str, platform: Platform | None, cache: Cache, reporter: Reporter
) -> StoredManifest:
    """Write the tree to a layout, or one platform's image of it to an archive; return its root."""
    kind, _, rest = target.partition(":")
    if kind == "oci":
        from dockyard.oci.layout_tree import write_tree
        from dockyard.oci.registry.tree import blobs_of, manifests_below

        folder, name = split_layout(rest)
        below = manifests_below(tree.source, tree.root)
        layers = {one.digest: one.size for stored in below for one in blobs_of(stored)[1:]}
        with reporter.task(f"Writing {folder}", total=sum(layers.values())) as task:
            write_tree(tree.source, tree.root, folder, reference_name=name, advance=task.advance)
        return tree.root
    from dockyard.build.request import Target
    from dockyard.build.sinks import deliver
    from dockyard.oci.registry.api import StoredManifest
    from dockyard.oci.registry.pull import pull_layers

    image = pull_layers(tree.image(platform), cache, reporter=reporter)
    goal = Target.parse(target)
    deliver([image], goal, references=[], loader=None, reporter=reporter)
    return StoredManifest.of(image.manifest_bytes, image.family)


def _file_tree(text: str) -> Tree:
    kind, _, rest = text.partition(":")
    if not rest:
        raise UsageError(
            f"{text!r} names no file", hint="Write oci:DIR, oci:DIR:NAME or archive:FILE.tar."
        )
    if kind == "oci":
        from dockyard.oci.layout_tree import LayoutSource

        folder, name = split_layout(rest)
        source = LayoutSource(folder=folder)
        root = source.manifest(name) if name is not None else source.only()
        return Tree(source=source, root=root, where=text, titles=_titles(source, root))
    from dockyard.oci.archive import read_archive

    return _image_tree(read_archive(Path(rest)), text)


def _titles(source: Source, root: StoredManifest) -> dict[Digest, str]:
    """What the images of a tree call their layers."""
    from dockyard.build.describe import layer_titles
    from dockyard.oci.descriptor import DOCKER_CONFIG, OCI_CONFIG
    from dockyard.oci.documents import MAX_SIZE
    from dockyard.oci.image import read_image
    from dockyard.oci.manifest import INDEX_TYPES, Manifest
    from dockyard.oci.registry.tree import manifests_below

    titles: dict[Digest, str] = {}
    for stored in manifests_below(source, root):
        if stored.media_type in INDEX_TYPES:
            continue
        config = Manifest.from_bytes(stored.data, where=str(stored.digest)).config
        if config.media_type in (OCI_CONFIG, DOCKER_CONFIG) and config.size <= MAX_SIZE:
            data = b"".join(source.blob(config).chunks())
            where = str(stored.digest)
            titles |= layer_titles(
                read_image(
                    stored.data, data, source.blob, where=where, media_type=stored.media_type
                )
            )
    return titles


def _image_tree(image: Image, where: str) -> Tree:
    from dockyard.build.describe import layer_titles
    from dockyard.oci.registry.push import ImagesSource

    source = ImagesSource.of([image])
    return Tree(source=source, root=source.root, where=where, titles=layer_titles(image))


def split_layout(text: str) -> tuple[Path, str | None]:
    """Folder and image's name of "DIR" or "DIR:NAME"; a folder that is there is believed."""
    if Path(text).exists() or ":" not in text:
        return Path(text), None
    folder, _, name = text.partition(":")
    return Path(folder), name or None
