"""`dockyard inspect`: what an image is made of."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import format_size, print_table

if TYPE_CHECKING:
    from dockyard.cli.source import ImageFacts

_MANY = 2


@click.command()
@click.argument("image")
@click.option("--packages", is_flag=True, help="List every package and its version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(*, image: str, packages: bool, as_json: bool) -> None:
    """Show an image's layers: where each comes from, its size, and who shares it.

    IMAGE is a name in the engine, oci:DIR, archive:FILE
    or registry:REFERENCE, of which no layer is fetched.
    """
    from dockyard.cli.source import image_facts

    facts = image_facts(image)
    if as_json:
        print(json.dumps(_to_json(facts), indent=2))
    else:
        _print(facts, packages=packages)


def _print(facts: ImageFacts, *, packages: bool) -> None:
    config: Any = facts.config
    how = "unpacked" if facts.unpacked else "compressed"
    print(f"{facts.name}  {facts.platform}  {format_size(facts.size)} {how}")
    print(f"  id       {facts.id}")
    command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    print(f"  command  {shlex.join(command)}")
    print(f"  user     {config.get('User') or 'root'}")
    if ports := config.get("ExposedPorts"):
        print(f"  ports    {', '.join(ports)}")
    for line in config.get("Env") or ():
        print(f"  env      {line}")
    print()
    rows = [
        [
            layer.origin.title if len(layer.origin.title) < 60 else layer.origin.title[:59] + "…",
            format_size(layer.size),
            layer.diff_id[7:19],
            _sharers(layer.shared_with),
        ]
        for layer in facts.layers
    ]
    print_table(["layer", "size", "diff id", "shared with"], rows, right="size")
    if packages:
        print()
        found = {
            (name, version)
            for layer in facts.layers
            for name, version in layer.origin.packages.items()
        }
        print_table(["package", "version"], [list(item) for item in sorted(found)])


def _sharers(names: tuple[str, ...]) -> str:
    if len(names) <= _MANY:
        return ", ".join(names)
    return f"{', '.join(names[:_MANY])} and {len(names) - _MANY} more"


def _to_json(facts: ImageFacts) -> dict[str, Any]:
    return {
        "name": facts.name,
        "id": facts.id,
        "platform": facts.platform,
        "size": facts.size,
        "config": dict(facts.config),
        "layers": [layer.to_json() for layer in facts.layers],
    }
