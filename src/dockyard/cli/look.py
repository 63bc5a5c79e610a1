"""`dockyard top` and `dockyard port`: a container's processes, and where its ports are."""

from __future__ import annotations

import json

import click

from dockyard.cli import complete
from dockyard.cli.chosen import need_container
from dockyard.cli.output import print_table
from dockyard.errors import EngineError


@click.command()
@click.argument("container", shell_complete=complete.containers)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def top(*, container: str, as_json: bool) -> None:
    """Show the processes of a container; their ids are those of the engine's machine."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    lines = engine.processes(need_container(engine, container).id)
    if as_json:
        facts = [
            {"pid": p.pid, "user": p.user, "time": p.time, "command": p.command} for p in lines
        ]
        print(json.dumps(facts, indent=2))
        return
    rows = [[str(p.pid), p.user, p.time, p.command] for p in lines]
    print_table(["pid", "user", "time", "command"], rows, right="pid", shrink="command")


@click.command()
@click.argument("container", shell_complete=complete.containers)
@click.argument("wanted", metavar="[PORT[/PROTOCOL]]", required=False)
def port(*, container: str, wanted: str | None) -> None:
    """Show where a container's ports are published."""
    from dockyard.engine.connect import find_engine

    state = need_container(find_engine(), container)
    key = None if wanted is None else wanted if "/" in wanted else f"{wanted}/tcp"
    found = [p for p in state.ports if key in (None, p.key)]
    if key is not None and not found:
        running = state.status == "running"
        hint = f"See: dockyard port {container}" if running else "It isn't running."
        raise EngineError(f"{container} publishes no port {key}", hint=hint)
    for published in found:
        host = published.host_ip or "0.0.0.0"  # noqa: S104 - printed, not bound
        where = f"[{host}]:{published.host}" if ":" in host else f"{host}:{published.host}"
        print(where if key is not None else f"{published.key} -> {where}")
