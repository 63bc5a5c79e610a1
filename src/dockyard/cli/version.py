"""`dockyard version`: what to put into a bug report."""

from __future__ import annotations

import json
import platform

import click

from dockyard import __version__
from dockyard.errors import EngineError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def version(*, as_json: bool) -> None:
    """Show the versions of Dockyard and of the engine."""
    from dockyard.engine.connect import find_engine

    try:
        engine: str | None = str(find_engine().info)
        reason = ""
    except EngineError as error:
        engine, reason = None, error.what
    if as_json:
        facts = {"dockyard": __version__, "python": platform.python_version(), "engine": engine}
        print(json.dumps(facts))
        return
    print(f"dockyard {__version__}")
    print(f"Python   {platform.python_version()}")
    print(f"engine   {engine or 'none'}{f' ({reason})' if reason else ''}")
