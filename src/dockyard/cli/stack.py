"""`dockyard stack`: look at a stack that runs, and restart or stop its services.

Rules: the stack is that of the current folder, or of --folder; services are named as in its Compose
file. `dockyard ps`, `logs` and their like are about single containers, by their own names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import print_table, with_reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockyard.progress import Reporter

_folder = click.option(
    "--folder",
    default=".",
    type=click.Path(path_type=Path),
    help="Folder of the stack. Default: this one.",
)


@click.group()
def stack() -> None:
    """Look at the stack of this folder, or restart its services."""


@stack.command()
@_folder
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def ps(*, folder: Path, as_json: bool) -> None:
    """List the stack's containers: how they are and where they answer."""
    from dockyard.cli.up import find_stack
    from dockyard.stack.state import members

    found = members(find_stack(folder))
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "service": member.service,
                "name": member.name,
                "state": member.state,
                "health": member.health or None,
                "urls": list(member.urls()),
            }
            for member in found
        ]
        print(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo("Nothing of this stack runs; `dockyard up` starts it.", err=True)
        return
    print_table(
        ["service", "container", "state", "address"],
        [
            (member.service, member.name, member.condition, " ".join(member.urls()))
            for member in found
        ],
    )


@stack.command()
@click.argument("services", nargs=-1)
@_folder
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written.")
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, or a date and time.")
@click.option("-n", "--tail", metavar="LINES", help="Only the last lines of each container.")
def logs(
    *, services: tuple[str, ...], folder: Path, follow: bool, since: str | None, tail: str | None
) -> int:
    """Show what the stack's containers wrote, together or of some SERVICES."""
    from dockyard.cli.up import find_stack

    words = ["logs", *(["--follow"] if follow else [])]
    words += ["--since", since] if since else []
    words += ["--tail", tail] if tail else []
    return find_stack(folder).show(*words, *services)


def _acting(name: str, doing: str, done: str, about: str) -> Callable[..., Any]:
    """A command that Compose carries out on some services or all."""

    @with_reporter
    def act(*, services: tuple[str, ...], folder: Path, reporter: Reporter) -> None:
        from dockyard.cli.up import find_stack

        what = ", ".join(services) or "the stack"
        find_stack(folder).follow(f"{doing} {what}", name, *services, reporter=reporter)
        reporter.note(f"{done} {what}.")

    command = click.argument("services", nargs=-1)(_folder(act))
    return stack.command(name, help=about)(command)


_acting("restart", "Restarting", "Restarted", "Restart SERVICES, or all of them.")
_acting("stop", "Stopping", "Stopped", "Stop SERVICES, or all of them; nothing is removed.")
_acting("start", "Starting", "Started", "Start SERVICES that were stopped, or all of them.")
