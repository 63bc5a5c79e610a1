"""`dockyard exec`: another command in a running container."""

from __future__ import annotations

from pathlib import Path

import click

from dockyard.cli import complete
from dockyard.cli.chosen import need_container


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("-i", "--interactive", is_flag=True, help="Give it what is typed or piped here.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable.")
@click.option(
    "--env-file", multiple=True, type=click.Path(path_type=Path), help="Read variables from a file."
)
@click.option("-u", "--user", help="Run it as another user.")
@click.option("-w", "--workdir", help="Working folder in the container.")
@click.argument("container", shell_complete=complete.containers)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def exec_(
    *,
    interactive: bool,
    terminal: bool,
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    user: str | None,
    workdir: str | None,
    container: str,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND in a running container; the exit code is the command's.

    For a shell: dockyard exec -it CONTAINER sh
    """
    from dockyard.cli.terminal import need_terminal, talk
    from dockyard.engine.api import Execution
    from dockyard.engine.connect import find_engine
    from dockyard.engine.spec import parse_environment

    need_terminal(terminal, interactive)
    command = command[1:] if command[:1] == ("--",) and len(command) > 1 else command
    execution = Execution(
        command=command,
        environment=parse_environment(env, env_file),
        user=user,
        workdir=workdir,
        interactive=interactive,
        terminal=terminal,
    )
    engine = find_engine()
    session = engine.execute(need_container(engine, container).id, execution)
    return talk(session, interactive=interactive, terminal=terminal)
