"""`dockyard down`: stop and remove a stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import with_reporter

if TYPE_CHECKING:
    from dockyard.progress import Reporter


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("-v", "--volumes", is_flag=True, help="Remove its volumes too: their data is lost.")
@with_reporter
def down(*, folder: Path, volumes: bool, reporter: Reporter) -> None:
    """Stop the stack of FOLDER and remove its containers and networks; its data stays."""
    from dockyard.cli.up import find_stack

    words = ["down", "--remove-orphans", *(["--volumes"] if volumes else [])]
    find_stack(folder).follow("Removing the stack", *words, reporter=reporter)
    reporter.note("Removed, with its data." if volumes else "Removed; its volumes are kept.")
