"""`dockyard compose`: the app and the services around it, as a Compose file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dockyard.stack.parts import Stack


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--print", "only_print", is_flag=True, help="Print it; write nothing.")
@click.option("--force", is_flag=True, help="Replace a compose.yaml that Dockyard didn't write.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def compose(*, folder: Path, only_print: bool, force: bool, as_json: bool) -> None:
    """Write compose.yaml for the project in FOLDER, with what [stack] asks for.

    Passwords are made once and kept in .dockyard/secrets, which Git ignores.
    """
    from dockyard.stack.compose import compose_text
    from dockyard.stack.files import write_stack

    root, stack = plan_folder(folder, files_at=".")
    if only_print:
        click.echo(compose_text(stack), nl=False)
        return
    written = write_stack(stack, root, root, force=force)
    paths = [str(path.relative_to(root)) for path in (written.compose, *written.files)]
    if as_json:
        print(json.dumps({"files": paths, "secrets": list(written.secrets)}, indent=2))
        return
    for path in paths:
        click.echo(f"Wrote {path}")
    for name in written.secrets:
        click.echo(f"Made {stack.secrets[name]}, a password that only this machine knows")
    click.echo("Start it with `dockyard up`.")


def plan_folder(folder: Path, *, files_at: str) -> tuple[Path, Stack]:
    """The project's folder and the stack that its configuration asks for."""
    from dockyard.app.config import load_config
    from dockyard.app.detect import detect
    from dockyard.app.ignore import project_root
    from dockyard.app.stack_config import StackConfig
    from dockyard.stack.plan import app_of, plan_stack

    root = project_root(folder)
    config, origin = load_config(root)
    app = app_of(detect(root, config, origin), config)
    return root, plan_stack(config.stack or StackConfig.model_validate({}), app, files_at=files_at)
