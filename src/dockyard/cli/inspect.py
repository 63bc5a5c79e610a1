"""`dockyard inspect`: what an image is made of, or all that is known of a container."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli import complete
from dockyard.cli.output import format_size, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.cli.source import ImageFacts
    from dockyard.engine.api import ContainerState

_MANY = 2
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY", re.I)


@click.command()
@click.argument("name", metavar="IMAGE or CONTAINER", shell_complete=complete.inspectable)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["container", "image"]),
    help="Which of the two is meant.  [default: a container of this name, else an image]",
)
@click.option("--packages", is_flag=True, help="List every package and its version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(*, name: str, kind: str | None, packages: bool, as_json: bool) -> None:
    """Show an image's layers (origin, size, sharing), or all of a container.

    IMAGE is a name in the engine, oci:DIR, archive:FILE
    or registry:REFERENCE, of which no layer is fetched. Variables of a container whose names
    sound secret are shown without their values.
    """
    from dockyard.cli.source import image_facts, stored_image

    # No container's name has a colon or a slash.
    may_be = not set(":/@") & set(name) and stored_image(name) is None
    if kind != "image" and not packages and (kind is not None or may_be):
        state = _container(name, needed=kind is not None)
        if state is not None:
            if as_json:
                print(json.dumps(_container_to_json(state), indent=2))
            else:
                _print_container(state)
            return
    facts = image_facts(name)
    if as_json:
        print(json.dumps(_to_json(facts), indent=2))
    else:
        _print(facts, packages=packages)


def _container(name: str, *, needed: bool) -> ContainerState | None:
    from dockyard.cli.chosen import need_container
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    return need_container(engine, name) if needed else engine.container(name)


def _container_to_json(state: ContainerState) -> dict[str, Any]:
    from dockyard.cli.ps import to_json

    return {**to_json(state), "environment": _without_secrets(state.environment)}


def _print_container(state: ContainerState) -> None:
    from dockyard.cli.ps import describe, describe_port

    print(f"{state.name}  {describe(state)}")
    facts = [
        ("id", state.id[:12]),
        ("image", f"{state.image}  {state.image_id.removeprefix('sha256:')[:12]}"),
        ("command", shlex.join(state.command)),
        ("user", state.user or "root"),
        ("created", state.created),
        ("started", state.started),
        ("finished", state.finished if state.ended else ""),
        ("error", state.error),
        ("health", "" if state.health == "none" else f"{state.health} {state.health_output}"),
        *(("port", describe_port(port)) for port in state.ports),
        *(("network", f"{name}  {address}".strip()) for name, address in state.networks.items()),
        *(
            ("mount", f"{m.target}  {m.kind} {m.source}{' (read-only)' if m.read_only else ''}")
            for m in state.mounts
        ),
        *(("env", f"{k}={v}") for k, v in _without_secrets(state.environment).items()),
        *(("label", f"{k}={v}") for k, v in state.labels.items()),
    ]
    for key, value in facts:
        if value:
            print(f"  {key:<9}{value}")


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: "***" if v and _SECRET.search(k) else v for k, v in environment.items()}


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
