"""What a shell completes: names of containers, images, networks and volumes.

Rules: quick and silent; where no engine answers there is nothing to offer.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from dockyard.errors import DockyardError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click


def containers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of containers, what they do as their help."""
    from dockyard.engine.connect import find_engine

    with suppress(DockyardError):
        states = find_engine().containers(label=None)
        return _matching(((state.name, state.status) for state in states), incomplete)
    return []


def images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of images; `:latest` left out, because bash takes a colon for the end of a word."""
    from dockyard.engine.connect import find_engine

    with suppress(DockyardError):
        found = find_engine().images()
        names = ((name.removesuffix(":latest"), "") for image in found for name in image.references)
        return _matching(names, incomplete)
    return []


def images_and_folders(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What `run` takes: folders, and names of images."""
    return [CompletionItem(incomplete, type="dir"), *images(ctx, param, incomplete)]


def inspectable(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What `inspect` takes: containers and images."""
    return [*containers(ctx, param, incomplete), *images(ctx, param, incomplete)]


def networks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of networks."""
    from dockyard.engine.connect import find_engine

    with suppress(DockyardError):
        found = find_engine().networks(label=None)
        return _matching(((network.name, network.driver) for network in found), incomplete)
    return []


def volumes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of volumes."""
    from dockyard.engine.connect import find_engine

    with suppress(DockyardError):
        found = find_engine().volumes(label=None)
        return _matching(((volume.name, "") for volume in found), incomplete)
    return []


def _matching(names: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    unique = dict(names)
    return [
        CompletionItem(name, help=text or None)
        for name, text in sorted(unique.items())
        if name.startswith(incomplete)
    ]
