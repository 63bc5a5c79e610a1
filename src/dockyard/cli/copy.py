"""`dockyard copy`: an image from one registry, layout or archive to another."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import format_seconds, with_reporter
from dockyard.cli.registry import insecure_option, open_registries, parse_platform, print_pushed

if TYPE_CHECKING:
    from dockyard.progress import Reporter


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--platform", metavar="PLATFORM", help="Copy only this platform's image.")
@insecure_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def copy(
    *,
    source: str,
    target: str,
    platform: str | None,
    insecure: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Copy an image of all its platforms from SOURCE to TARGET, byte for byte.

    Each is a registry's reference, oci:DIR[:NAME], or archive:FILE, which holds one platform.
    Within a registry nothing is moved; between two, layers are streamed without touching the disk.

    \b
    dockyard copy python:3.12-slim registry.example/mirror/python:3.12-slim
    dockyard copy registry.example/team/app:v1 oci:image
    """
    from dockyard.cli.tree import is_file_name, local_tree, registry_tree, write_file
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.push import push_references

    started = time.monotonic()
    named = [Reference.parse(text) for text in (source, target) if not is_file_name(text)]
    wanted = parse_platform(platform)
    with ExitStack() as stack:
        registries, cache = stack.enter_context(open_registries(named, insecure=insecure))
        if is_file_name(source):
            tree = stack.enter_context(local_tree(source, wanted, cache, reporter))
        else:
            tree = registry_tree(source, wanted, registries)
        if not is_file_name(target):
            goal = Reference.parse(target)
            pushed = push_references(
                registries,
                tree.source,
                tree.root,
                [goal],
                titles=tree.titles,
                cache=cache,
                reporter=reporter,
            )
            seconds = time.monotonic() - started
            print_pushed(pushed, [goal], seconds, as_json=as_json, verb="Copied to")
            return
        root = write_file(tree, target, wanted, cache, reporter)
    if as_json:
        value = {"target": target, "digest": str(root.digest), "mediaType": root.media_type}
        print(json.dumps(value, indent=2))
    else:
        seconds = time.monotonic() - started
        path = Path(target.partition(":")[2])
        print(f"Copied {source} to {path} in {format_seconds(seconds)}")
        print(f"  digest  {root.digest}")
