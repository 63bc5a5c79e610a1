"""`dockyard lock`: the exact packages of the image, written to pylock.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import with_reporter

if TYPE_CHECKING:
    from dockyard.progress import Reporter


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--upgrade", is_flag=True, help="Take the newest versions that fit.")
@click.option("--check", is_flag=True, help="Write nothing; fail when the lock isn't current.")
@click.option("--offline", is_flag=True, help="Use only what the cache holds.")
@with_reporter
def lock(*, folder: Path, upgrade: bool, check: bool, offline: bool, reporter: Reporter) -> None:
    """Resolve the project's dependencies and its base, and write pylock.toml.

    A build uses the lock as long as it is current, and says when it isn't.
    """
    from dockyard.build.lock import check_lock, lock_project
    from dockyard.build.request import BuildRequest

    request = BuildRequest(folder=folder, upgrade=upgrade, offline=offline)
    if check:
        check_lock(request, reporter=reporter)
        click.echo("pylock.toml is current")
        return
    written = lock_project(request, reporter=reporter)
    packages = "1 package" if written.packages == 1 else f"{written.packages} packages"
    click.echo(f"Wrote {written.path}: {packages} for {written.platforms}")
