"""`dockyard init`: what was detected, written down as a commented dockyard.toml."""

from __future__ import annotations

from pathlib import Path

import click

from dockyard.errors import ConfigError


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a dockyard.toml that is there.")
def init(*, folder: Path, force: bool) -> None:
    """Write dockyard.toml, with what was detected and why, and a .dockerignore."""
    from dockyard.app.config import load_config
    from dockyard.app.detect import detect
    from dockyard.app.ignore import project_root
    from dockyard.app.init import write_init

    root = project_root(folder)
    config, origin = load_config(root)
    if origin.name == "pyproject.toml":
        # Two places for one configuration are an error that the next build would meet.
        raise ConfigError(
            "the project has its settings here already, in [tool.dockyard]",
            where=origin.name,
            hint="Change them there, or remove that table first.",
        )
    detected = detect(root, config, origin)
    for path in write_init(root, detected, config, force=force):
        click.echo(f"Wrote {path}")
    for warning in detected.warnings:
        click.echo(f"warning: {warning}", err=True)
