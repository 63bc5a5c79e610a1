"""`dockyard network`: networks on which containers find each other by name."""

from __future__ import annotations

import json

import click

from dockyard.cli import complete
from dockyard.cli.chosen import for_each, need_container
from dockyard.cli.output import print_table
from dockyard.engine.words import parse_labels


@click.group()
def network() -> None:
    """Make, list and remove networks, and put containers on them."""


@network.command()
@click.argument("name")
@click.option("--driver", default="bridge", show_default=True, help="bridge, overlay, macvlan…")
@click.option("--internal", is_flag=True, help="Without a way out.")
@click.option("--subnet", metavar="CIDR", help="Its addresses, such as 10.9.0.0/24.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Label it.")
def create(
    *, name: str, driver: str, internal: bool, subnet: str | None, label: tuple[str, ...]
) -> None:
    """Make a network."""
    from dockyard.engine.connect import find_engine

    labels = parse_labels(label)
    made = find_engine().create_network(
        name, driver=driver, internal=internal, subnet=subnet, labels=labels
    )
    print(made.name)


@network.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those of others too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def ls(*, everything: bool, as_json: bool) -> None:
    """List the networks that Dockyard made, and who is on them."""
    from dockyard.engine.api import MANAGED
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    found = engine.networks(label=None if everything else MANAGED)
    members: dict[str, list[str]] = {}
    for state in engine.containers(label=None):
        for name in state.networks:
            members.setdefault(name, []).append(state.name)
    if as_json:
        facts = [
            {
                "id": n.id,
                "name": n.name,
                "driver": n.driver,
                "internal": n.internal,
                "subnets": list(n.subnets),
                "labels": dict(n.labels),
                "containers": members.get(n.name, []),
            }
            for n in found
        ]
        print(json.dumps(facts, indent=2))
        return
    rows = [
        [n.name, n.driver, ", ".join(n.subnets), ", ".join(members.get(n.name, []))] for n in found
    ]
    print_table(["name", "driver", "subnet", "containers"], rows, shrink="containers")


@network.command()
@click.argument("networks", nargs=-1, required=True, shell_complete=complete.networks)
def rm(*, networks: tuple[str, ...]) -> int:
    """Remove networks that nobody is on."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()

    def act(name: str) -> str:
        engine.remove_network(name)
        return name

    return for_each(networks, act)


@network.command()
@click.argument("name", metavar="NETWORK", shell_complete=complete.networks)
@click.argument("container", shell_complete=complete.containers)
@click.option("--alias", multiple=True, metavar="NAME", help="A further name of it there.")
def connect(*, name: str, container: str, alias: tuple[str, ...]) -> None:
    """Put a container on a network."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    engine.connect(name, need_container(engine, container).id, aliases=alias)


@network.command()
@click.argument("name", metavar="NETWORK", shell_complete=complete.networks)
@click.argument("container", shell_complete=complete.containers)
def disconnect(*, name: str, container: str) -> None:
    """Take a container off a network."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    engine.disconnect(name, need_container(engine, container).id)
