"""`dockyard stop`, `start`, `restart`, `kill`, `wait`, `rm`: a container's life by its name.

Rules: each takes several containers, prints the name of each when it is done, and carries on with
the others where one fails. Any container may be named, whoever started it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dockyard.cli import complete
from dockyard.cli.chosen import for_each, need_container, need_names
from dockyard.cli.output import with_reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockyard.engine.api import Engine
    from dockyard.progress import Reporter

_PATIENCE = 300.0  # Seconds until a container that was started must be ready.


def _containers(command: Callable[..., Any]) -> Callable[..., Any]:
    argument = click.argument(
        "containers", nargs=-1, metavar="CONTAINER...", shell_complete=complete.containers
    )
    return argument(command)


def _engine(names: tuple[str, ...]) -> Engine:
    from dockyard.engine.connect import find_engine

    need_names(names)
    return find_engine()


_grace = click.option(
    "-t",
    "--time",
    "grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long it may take to stop before it is killed.  [default: 10]",
)


@click.command()
@_containers
@_grace
def stop(*, containers: tuple[str, ...], grace: float | None) -> int:
    """Stop containers: the image's signal, and a kill after its grace time."""
    engine = _engine(containers)

    def act(name: str) -> str:
        engine.stop(need_container(engine, name).id, grace=grace)
        return name

    return for_each(containers, act)


@click.command()
@_containers
@click.option("--no-wait", is_flag=True, help="Don't wait until it is ready.")
@with_reporter
def start(*, containers: tuple[str, ...], no_wait: bool, reporter: Reporter) -> int:
    """Start containers that were stopped or have ended, and wait until they are ready."""
    engine = _engine(containers)

    def act(name: str) -> str:
        number = need_container(engine, name).id
        engine.start(number)
        return name if no_wait else _await(engine, number, name, reporter)

    return for_each(containers, act)


@click.command()
@_containers
@_grace
@click.option("--no-wait", is_flag=True, help="Don't wait until it is ready.")
@with_reporter
def restart(
    *, containers: tuple[str, ...], grace: float | None, no_wait: bool, reporter: Reporter
) -> int:
    """Stop containers and start them again."""
    engine = _engine(containers)

    def act(name: str) -> str:
        number = need_container(engine, name).id
        engine.restart(number, grace=grace)
        return name if no_wait else _await(engine, number, name, reporter)

    return for_each(containers, act)


@click.command()
@_containers
@click.option(
    "-s", "--signal", default="KILL", show_default=True, help="The signal: a name or a number."
)
def kill(*, containers: tuple[str, ...], signal: str) -> int:
    """Send a signal to containers; by default the one that nobody survives."""
    number = _signal_name(signal)
    engine = _engine(containers)

    def act(name: str) -> str:
        engine.kill(need_container(engine, name).id, number)
        return name

    return for_each(containers, act)


@click.command()
@_containers
def wait(*, containers: tuple[str, ...]) -> int:
    """Wait until containers have ended; print their exit codes, one a line, in this order."""
    engine = _engine(containers)
    return for_each(containers, lambda name: str(engine.wait(need_container(engine, name).id)))


@click.command()
@_containers
@click.option("-f", "--force", is_flag=True, help="Kill those that run; absent ones are no error.")
def rm(*, containers: tuple[str, ...], force: bool) -> int:
    """Remove containers with their anonymous volumes; named volumes stay."""
    engine = _engine(containers)

    def act(name: str) -> str | None:
        state = engine.container(name) if force else need_container(engine, name)
        if state is None:
            return None
        engine.remove(state.id, force=force)
        return name

    return for_each(containers, act)


def _await(engine: Engine, number: str, name: str, reporter: Reporter) -> str:
    """Wait until a started container is ready, and say where it answers."""
    from dockyard.engine.ready import adopt, wait_ready

    ready = wait_ready(adopt(engine, number), timeout=_PATIENCE)
    if ready.urls:
        reporter.note(f"{name} is ready: {' '.join(ready.urls)}")
    return name


def _signal_name(text: str) -> str:
    """The signal's full name: "9", "KILL" and "SIGKILL" are the same."""
    import signal

    from dockyard.errors import UsageError

    names = {name for name in signal.Signals.__members__ if name.startswith("SIG")}
    name = text.upper()
    if name.isdigit() and int(name) in {int(known) for known in signal.Signals}:
        return signal.Signals(int(name)).name
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in names:
        raise UsageError(f"{text!r} is no signal", hint="Write a name such as TERM, or a number.")
    return name
