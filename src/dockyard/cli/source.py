"""Images that a command names: in the engine, in a layout's folder, an archive's file, a registry.

Rules:
- "oci:DIR", "archive:FILE" and "registry:REFERENCE" say which; a path that exists is taken for
  what it is; anything else is an image of the engine.
- "registry:2" is an image called registry, as Docker's own is: what follows must have a "/", a
  tag or a digest to be a reference.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dockyard.build.describe import LayerFacts
    from dockyard.engine.connect import FoundEngine
    from dockyard.oci.image import Image
    from dockyard.oci.reference import Reference
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What `inspect` shows of an image, wherever it is; config is the image-spec's object.

    unpacked: whether the layers' sizes are of the unpacked files (an engine) or compressed.
    """

    name: str
    id: str
    platform: str
    size: int
    unpacked: bool
    config: Mapping[str, object]
    layers: tuple[LayerFacts, ...]


def stored_image(text: str) -> Image | None:
    """The image in a layout or archive that the text names; None when it names neither."""
    kind, colon, rest = text.partition(":")
    path = Path(text)
    if colon and kind in ("oci", "archive"):
        path = Path(rest)
    elif not path.exists() or not (path.is_file() or (path / "index.json").exists()):
        return None
    if path.is_dir() or kind == "oci":
        from dockyard.oci.layout import read_layout

        return read_layout(path)
    from dockyard.oci.archive import read_archive

    return read_archive(path)


def registry_reference(text: str) -> Reference | None:
    """The reference of "registry:REFERENCE"; None for anything else."""
    kind, _, rest = text.partition(":")
    if kind != "registry" or not any(mark in rest for mark in "/:@"):
        return None
    from dockyard.oci.reference import Reference

    return Reference.parse(rest)


@contextmanager
def _remote_image(reference: Reference) -> Iterator[Image]:
    """Yield a registry's image for this machine's platform; its layers are read from there."""
    from dockyard.cli.registry import open_registries
    from dockyard.oci.registry.pull import fetch_image

    with open_registries([reference], insecure=False) as (registries, _):
        yield fetch_image(registries, reference)


def image_facts(text: str) -> ImageFacts:
    """Look at an image; raises EngineError, ImageError or RegistryError when there is none."""
    if (reference := registry_reference(text)) is not None:
        with _remote_image(reference) as image:
            return _stored_facts(text, image)
    stored = stored_image(text)
    return _engine_facts(text) if stored is None else _stored_facts(text, stored)


def _stored_facts(text: str, image: Image) -> ImageFacts:
    from dockyard.build.describe import describe_layers

    layers = describe_layers(
        [layer.created_by for layer in image.layers],
        [str(layer.diff_id) for layer in image.layers],
        [layer.descriptor.size for layer in image.layers],
        others={},
    )
    return ImageFacts(
        name=text,
        id=str(image.id),
        platform=str(image.platform),
        size=image.size,
        unpacked=False,
        config=image.config.to_json()["config"],
        layers=layers,
    )


def _engine_facts(reference: str) -> ImageFacts:
    from dockyard.build.describe import describe_layers
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    image = engine.image(reference)
    if image is None:
        raise _absent(reference, engine)
    history = engine.history(reference)
    if len(history) != len(image.layers):
        history = tuple(line for line in history if line.size)
    sizes = [line.size for line in history]
    if len(sizes) != len(image.layers):
        sizes = [0] * len(image.layers)
    others = {
        other.references[0] if other.references else other.id[7:19]: other.layers
        for other in engine.images()
        if other.id != image.id
    }
    return ImageFacts(
        name=image.references[0] if image.references else reference,
        id=image.id,
        platform=f"{image.os}/{image.architecture}",
        size=image.size,
        unpacked=True,
        config=image.config,
        layers=describe_layers(
            [line.created_by for line in history], image.layers, sizes, others=others
        ),
    )


@contextmanager
def readable_image(text: str, reporter: Reporter) -> Iterator[Image]:
    """Yield the image with its layers' bytes; one of the engine is saved to a temporary file.

    One of a registry (this machine's platform) is read from there, layer by layer.
    """
    if (reference := registry_reference(text)) is not None:
        with _remote_image(reference) as remote:
            yield remote
        return
    image = stored_image(text)
    if image is not None:
        yield image
        return
    from dockyard.engine.connect import find_engine
    from dockyard.oci.archive import read_archive

    engine = find_engine()
    known = engine.image(text)
    if known is None:
        raise _absent(text, engine)
    with tempfile.NamedTemporaryFile(prefix="dockyard-", suffix=".tar") as file:
        with reporter.task(f"Reading {text} from the engine", total=known.size) as task:
            for chunk in engine.save(text):
                file.write(chunk)
                task.advance(len(chunk))
        file.flush()
        yield read_archive(Path(file.name))


def _absent(reference: str, engine: FoundEngine) -> EngineError:
    return EngineError(
        f"there is no image {reference}",
        where=str(engine.info),
        hint="Build it with `dockyard build`, or name a file: oci:DIR or archive:FILE.",
    )
