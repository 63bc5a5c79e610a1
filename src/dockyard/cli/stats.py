"""`dockyard stats`: what containers use, as a table that moves or as JSON."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli import complete
from dockyard.cli.chosen import need_container
from dockyard.cli.output import format_size, is_terminal, print_table
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dockyard.engine.api import ContainerState, Engine, Usage
    from dockyard.engine.rates import Rates

_AT_ONCE = 16
_HEADERS = ("name", "cpu", "memory", "limit", "net in", "net out", "read", "written", "procs")
_RIGHT = "cpu memory limit in out read written procs"


@dataclass(frozen=True, slots=True)
class _Row:
    state: ContainerState
    usage: Usage
    rates: Rates


@click.command()
@click.argument(
    "containers", nargs=-1, metavar="[CONTAINER...]", shell_complete=complete.containers
)
@click.option("-a", "--all", "everything", is_flag=True, help="Those of others too.")
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Go on until Ctrl-C.  [default: on a terminal, without --json]",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: with --stream a line a look.")
def stats(
    *,
    containers: tuple[str, ...],
    everything: bool,
    stream: bool | None,
    interval: float,
    as_json: bool,
) -> None:
    """Show CPU, memory, network and disk of running containers (by default Dockyard's own)."""
    from dockyard.engine.api import MANAGED
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    if containers:
        for name in containers:
            need_container(engine, name)

    def running() -> list[ContainerState]:
        if containers:
            named = (engine.container(name) for name in containers)
            states: Sequence[ContainerState] = [state for state in named if state is not None]
        else:
            states = engine.containers(label=None if everything else MANAGED)
        return [state for state in states if state.status == "running"]

    on_screen = is_terminal(sys.stdout) and not as_json
    stream = on_screen if stream is None else stream
    looks = _looks(engine, running, interval)
    if not stream:
        rows = next(looks)
        if as_json:
            print(json.dumps([_to_json(row) for row in rows], indent=2))
        else:
            print_table(_headers(engine), _cells(engine, rows), right=_RIGHT, shrink="name")
        return
    if on_screen:
        _draw(engine, looks)
        return
    for rows in looks:
        print(json.dumps([_to_json(row) for row in rows]), flush=True)


def _looks(
    engine: Engine, running: Callable[[], list[ContainerState]], interval: float
) -> Iterator[list[_Row]]:
    """One list of rows for each interval."""
    from dockyard.engine.rates import rates

    before: dict[str, Usage] = {}

    def look(state: ContainerState) -> Usage | None:
        try:
            return engine.usage(state.id)
        except EngineError:
            if engine.container(state.id) is None:
                return None  # It went away meanwhile.
            return None if not _still_runs(engine, state) else engine.usage(state.id)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while True:
            states = running()
            found = dict(zip((s.id for s in states), pool.map(look, states), strict=True))
            usages = {number: usage for number, usage in found.items() if usage is not None}
            if before or not states:
                yield [
                    _Row(state, usages[state.id], rates(before[state.id], usages[state.id]))
                    for state in states
                    if state.id in usages and state.id in before
                ]
            before = usages
            time.sleep(interval)


def _still_runs(engine: Engine, state: ContainerState) -> bool:
    now = engine.container(state.id)
    return now is not None and now.status == "running"


def _headers(engine: Engine) -> list[str]:
    return list(_HEADERS)


def _cells(engine: Engine, rows: list[_Row]) -> list[list[str]]:
    def size(value: float | None, per_second: bool = False) -> str:
        if value is None:
            return "-"
        return format_size(value) + ("/s" if per_second else "")

    return [
        [
            row.state.name,
            "-" if row.rates.cpu is None else f"{row.rates.cpu:.0%}",
            size(row.usage.memory),
            size(row.usage.memory_limit),
            size(row.rates.network_received, True),
            size(row.rates.network_sent, True),
            size(row.rates.block_read, True),
            size(row.rates.block_written, True),
            "-" if row.usage.processes is None else str(row.usage.processes),
        ]
        for row in rows
    ]


def _draw(engine: Engine, looks: Iterator[list[_Row]]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for rows in looks:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for header in _headers(engine):
                table.add_column(header.upper(), justify="left" if header == "name" else "right")
            for cells in _cells(engine, rows):
                table.add_row(*cells)
            live.update(table if rows else "No container is running.", refresh=True)


def _to_json(row: _Row) -> dict[str, Any]:
    usage, now = row.usage, row.rates
    return {
        "id": row.state.id,
        "name": row.state.name,
        "cpu_cores": None if now.cpu is None else round(now.cpu, 4),
        "cpu_seconds": usage.cpu,
        "memory": usage.memory,
        "memory_limit": usage.memory_limit,
        "network_received": usage.network_received,
        "network_sent": usage.network_sent,
        "block_read": usage.block_read,
        "block_written": usage.block_written,
        "processes": usage.processes,
    }
