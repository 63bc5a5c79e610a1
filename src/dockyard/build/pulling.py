"""Images of a registry on their way into an engine, a layout or an archive.

Rules:
- Only what the target needs is fetched: an engine that has the lower layers gets the upper ones.
- Layers come into the cache first, several at once, so that a broken pull goes on; then the target
  is written in one go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.build.describe import layer_titles
from dockyard.build.sinks import deliver, known_prefix, load_into
from dockyard.oci.platform import Platform
from dockyard.oci.registry.pull import fetch_image, pull_layers

if TYPE_CHECKING:
    from dockyard.build.request import Target
    from dockyard.build.sinks import Loader
    from dockyard.cache import Cache
    from dockyard.oci.image import Image
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Registries
    from dockyard.progress import Reporter


def pull_into_engine(
    registries: Registries,
    reference: Reference,
    platform: Platform | None,
    *,
    engine: Loader,
    cache: Cache,
    reporter: Reporter,
) -> Image:
    """Load the image for the platform (the engine's own, if None) under the reference's name."""
    wanted = platform or Platform("linux", engine.info.architecture)
    image = fetch_image(registries, reference, wanted)
    skip = known_prefix(image, engine.known_layers())
    titles = layer_titles(image)
    image = pull_layers(image, cache, skip=skip, titles=titles, reporter=reporter)
    load_into(engine, image, references=_names(reference), reporter=reporter)
    return image


def pull_into_file(
    registries: Registries,
    reference: Reference,
    platform: Platform | None,
    target: Target,
    *,
    cache: Cache,
    reporter: Reporter,
) -> Image:
    """Write the image for the platform (this machine's, if None) to a layout or an archive."""
    image = fetch_image(registries, reference, platform)
    image = pull_layers(image, cache, titles=layer_titles(image), reporter=reporter)
    deliver([image], target, references=_names(reference), loader=None, reporter=reporter)
    return image


def _names(reference: Reference) -> list[str]:
    return [f"{reference.repository}:{reference.tag}"] if reference.tag is not None else []
