"""`dockyard push`: an image from here into a registry."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import with_reporter
from dockyard.cli.registry import insecure_option, open_registries, parse_platform, print_pushed

if TYPE_CHECKING:
    from dockyard.progress import Reporter


@click.command()
@click.argument("image")
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
@click.option("--platform", metavar="PLATFORM", help="Push only this platform's image.")
@insecure_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def push(
    *,
    image: str,
    references: tuple[str, ...],
    platform: str | None,
    insecure: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Push IMAGE to a registry, under its own name or as REFERENCE.

    IMAGE is a name in the engine, oci:DIR[:NAME], or archive:FILE. What the registry has isn't
    sent; a push that was interrupted goes on where it stopped.

    \b
    dockyard push registry.example/team/app:v1
    dockyard push app registry.example/team/app:v1 registry.example/team/app:latest
    dockyard push oci:image registry.example/team/app:v1
    """
    from dockyard.cli.tree import is_file_name, local_tree
    from dockyard.errors import UsageError
    from dockyard.oci.reference import DEFAULT_DOMAIN, Reference
    from dockyard.oci.registry.push import push_references

    started = time.monotonic()
    wanted = parse_platform(platform)
    if not references and is_file_name(image):
        raise UsageError(
            "this image has no name of its own",
            where=image,
            hint=f"Say where it goes: dockyard push {image} REGISTRY/NAME:TAG.",
        )
    targets = [Reference.parse(text) for text in references or (image,)]
    for text, target in zip(references or (image,), targets, strict=True):
        if target.domain == DEFAULT_DOMAIN and target.path.startswith("library/"):
            raise UsageError(
                f"{text!r} names no place to push to",
                hint=f"Name the registry: dockyard push {image} REGISTRY/{target.familiar()}; on "
                "Docker Hub, USER/NAME.",
            )
    with ExitStack() as stack:
        registries, cache = stack.enter_context(open_registries(targets, insecure=insecure))
        tree = stack.enter_context(local_tree(image, wanted, cache, reporter))
        pushed = push_references(
            registries,
            tree.source,
            tree.root,
            targets,
            titles=tree.titles,
            cache=cache,
            reporter=reporter,
        )
    print_pushed(pushed, targets, time.monotonic() - started, as_json=as_json, verb="Pushed")
