"""`dockyard logs`: what containers wrote, and go on writing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dockyard.cli import complete
from dockyard.cli.chosen import need_container, need_names
from dockyard.cli.output import open_reporter, use_colour
from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.api import Engine, LogChunk

_COLOURS = ("\033[36m", "\033[33m", "\033[32m", "\033[35m", "\033[34m", "\033[31m")


@click.command()
@click.argument("containers", nargs=-1, metavar="CONTAINER...", shell_complete=complete.containers)
@click.option("-f", "--follow", is_flag=True, help="Go on until they end.")
@click.option("-n", "--tail", metavar="LINES", help="Only the last lines of each; all by default.")
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, 2h, 2024-05-01T12:00.")
def logs(*, containers: tuple[str, ...], follow: bool, tail: str | None, since: str | None) -> None:
    """Show what containers wrote; of several, every line has its container's name before it.

    While it follows, an engine that is restarted is waited for.
    """
    from dockyard.engine.connect import find_engine
    from dockyard.engine.following import interleave
    from dockyard.engine.words import parse_since

    need_names(containers)
    last = _lines(tail)
    begin = None if since is None else parse_since(since)
    engine = find_engine()
    states = [need_container(engine, name) for name in dict.fromkeys(containers)]
    sources = [
        (state.name, _read(engine, state.id, state.name, follow, last, begin)) for state in states
    ]
    if len(sources) == 1:
        for chunk in sources[0][1]:
            stream = sys.stdout if chunk.stream == "stdout" else sys.stderr
            stream.buffer.write(chunk.data)
            if follow:
                stream.flush()
        sys.stdout.flush()
        return
    width = max(len(name) for name, _ in sources)
    colours = dict(zip((name for name, _ in sources), _COLOURS * len(sources), strict=False))
    for name, chunk in interleave(sources):
        stream = sys.stdout if chunk.stream == "stdout" else sys.stderr
        coloured = use_colour(stream)
        before, after = (colours[name], "\033[0m") if coloured else ("", "")
        stream.buffer.write(f"{before}{name:<{width}} | {after}".encode() + chunk.data)
        if follow:
            stream.flush()


def _read(
    engine: Engine,
    container: str,
    name: str,
    follow: bool,
    tail: int | None,
    since: float | None,
) -> Iterator[LogChunk]:
    from dockyard.engine import following

    if not follow:
        return engine.logs(container, tail=tail, since=since)

    def lost() -> None:
        with open_reporter() as reporter:
            reporter.warn(f"the engine went away; waiting for it and for {name}")

    return following.follow(engine, container, tail=tail, since=since, lost=lost)


def _lines(text: str | None) -> int | None:
    if text in (None, "all"):
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--tail {text!r} is no number of lines")
    return int(text)
