"""`dockyard prune`: remove what nobody needs any more."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import format_size, with_reporter
from dockyard.errors import UsageError

if TYPE_CHECKING:
    from dockyard.engine.prune import Unused
    from dockyard.progress import Reporter


@click.command()
@click.option("--volumes", is_flag=True, help="Volumes that no container uses, with their data.")
@click.option("--images", is_flag=True, help="Images that no container uses, named ones too.")
@click.option("-a", "--all", "everything", is_flag=True, help="Not only what Dockyard made.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs -y or --dry-run.")
@with_reporter
def prune(
    *,
    volumes: bool,
    images: bool,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    reporter: Reporter,
) -> int:
    """Remove stopped containers, unused networks and nameless images that Dockyard made."""
    from dockyard.engine.connect import find_engine
    from dockyard.engine.prune import find_unused, remove_unused

    if as_json and not (yes or dry_run):
        raise UsageError("--json needs -y or --dry-run")
    engine = find_engine()
    unused = find_unused(engine, volumes=volumes, images=images, everything=everything)
    if as_json:
        print(json.dumps(_to_json(unused), indent=2))
    elif not unused:
        print("There is nothing to remove.")
    else:
        _print(unused)
    if dry_run or not unused:
        return 0
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to be asked", hint="Give -y, or --dry-run to look.")
        click.confirm("Remove all of these?", abort=True, err=True)
    return 1 if remove_unused(engine, unused, reporter=reporter) else 0


def _print(unused: Unused) -> None:
    for state in unused.containers:
        print(f"container  {state.name}  ({state.image}, {state.status})")
    for network in unused.networks:
        print(f"network    {network.name}")
    for volume in unused.volumes:
        print(f"volume     {volume.name}")
    for image in unused.images:
        names = ", ".join(image.references) or image.id[7:19]
        print(f"image      {names}  ({format_size(image.size)} with what it shares)")


def _to_json(unused: Unused) -> dict[str, list[str]]:
    return {
        "containers": [state.name for state in unused.containers],
        "networks": [network.name for network in unused.networks],
        "volumes": [volume.name for volume in unused.volumes],
        "images": [next(iter(image.references), image.id) for image in unused.images],
    }
