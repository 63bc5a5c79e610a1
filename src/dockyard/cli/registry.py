"""What the commands that speak to registries share: their options, the connection, the outcome."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import format_seconds, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dockyard.cache import Cache
    from dockyard.oci.platform import Platform
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Placed
    from dockyard.oci.registry.connect import HttpRegistries
    from dockyard.oci.registry.push import Pushed


_WORDS: Mapping[Placed, str] = {
    "uploaded": "uploaded",
    "mounted": "mounted from other repositories",
    "there": "there before",
}


def insecure_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --insecure to a command that names a registry."""
    return click.option(
        "--insecure",
        is_flag=True,
        help="Allow plain HTTP and any certificate with the registries named here.",
    )(command)


@contextmanager
def open_registries(
    references: Sequence[Reference], *, insecure: bool
) -> Iterator[tuple[HttpRegistries, Cache]]:
    """Yield the user's registries and the cache; insecure: those of the references may be plain."""
    from dockyard.cache import Cache
    from dockyard.oci.registry.connect import HttpRegistries

    hosts = {reference.domain for reference in references} if insecure else set()
    cache = Cache()
    with HttpRegistries(cache=cache, insecure=hosts) as registries:
        yield registries, cache


def parse_platform(text: str | None) -> Platform | None:
    """The platform that --platform names."""
    from dockyard.oci.platform import Platform

    return Platform.parse(text) if text is not None else None


def print_pushed(
    pushed: Sequence[Pushed],
    references: Sequence[Reference],
    seconds: float,
    *,
    as_json: bool,
    verb: str,
) -> None:
    """Say what is in the registry now, and how it came there; one push for each repository."""
    root = pushed[0].descriptor
    counts = {kind: sum(each.count(kind) for each in pushed) for kind in _WORDS}
    sizes = {kind: sum(each.sizes[kind] for each in pushed) for kind in _WORDS}
    if as_json:
        value = {
            "references": [str(reference) for reference in references],
            "digest": str(root.digest),
            "mediaType": root.media_type,
            "blobs": counts,
            "bytes": sizes,
        }
        print(json.dumps(value, indent=2))
        return
    names = ", ".join(reference.familiar() for reference in references)
    print(f"{verb} {names} in {format_seconds(seconds)}")
    print(f"  digest  {root.digest}")
    parts = [
        f"{counts[kind]} {words} ({format_size(sizes[kind])})"
        for kind, words in _WORDS.items()
        if counts[kind]
    ]
    print(f"  blobs   {', '.join(parts) or 'the image was there before'}")
