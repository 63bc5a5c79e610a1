"""`dockyard schema`: the JSON Schema of dockyard.toml, for editors."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of dockyard.toml, for editors and for reading."""
    from dockyard.app.schema import schema_text

    click.echo(schema_text(), nl=False)
