"""`dockyard volume`: data that outlives its containers."""

from __future__ import annotations

import json

import click

from dockyard.cli import complete
from dockyard.cli.chosen import for_each
from dockyard.cli.output import print_table
from dockyard.engine.words import parse_labels


@click.group()
def volume() -> None:
    """Make, list and remove volumes."""


@volume.command()
@click.argument("name")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Label it.")
def create(*, name: str, label: tuple[str, ...]) -> None:
    """Make a volume."""
    from dockyard.engine.connect import find_engine

    labels = parse_labels(label)
    print(find_engine().create_volume(name, labels=labels).name)


@volume.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those of others too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def ls(*, everything: bool, as_json: bool) -> None:
    """List the volumes that Dockyard made, and who uses them."""
    from dockyard.engine.api import MANAGED
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    found = engine.volumes(label=None if everything else MANAGED)
    users: dict[str, list[str]] = {}
    for state in engine.containers(label=None):
        for mount in state.mounts:
            users.setdefault(mount.source, []).append(state.name)
    if as_json:
        facts = [
            {
                "name": v.name,
                "driver": v.driver,
                "path": v.path,
                "labels": dict(v.labels),
                "created": v.created or None,
                "containers": users.get(v.name, []),
            }
            for v in found
        ]
        print(json.dumps(facts, indent=2))
        return
    rows = [[v.name, v.driver, ", ".join(users.get(v.name, []))] for v in found]
    print_table(["name", "driver", "containers"], rows, shrink="containers")


@volume.command()
@click.argument("volumes", nargs=-1, required=True, shell_complete=complete.volumes)
def rm(*, volumes: tuple[str, ...]) -> int:
    """Remove volumes with their data."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()

    def act(name: str) -> str:
        engine.remove_volume(name)
        return name

    return for_each(volumes, act)
