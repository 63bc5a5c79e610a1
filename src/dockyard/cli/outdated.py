"""`dockyard outdated`: packages and bases that have newer versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import print_table, with_reporter

if TYPE_CHECKING:
    from dockyard.build.outdated import Newer
    from dockyard.progress import Reporter

_SHORT = 19  # characters of a digest: "sha256:" and twelve digits


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def outdated(*, folder: Path, as_json: bool, reporter: Reporter) -> None:
    """Say which packages and which base of the project in FOLDER have newer versions.

    "fits" is what the project's own requirements allow, and what `dockyard lock --upgrade` or
    `dockyard build --upgrade` takes. Nothing is changed.
    """
    from dockyard.build.outdated import find_newer
    from dockyard.build.request import BuildRequest

    found = find_newer(BuildRequest(folder=folder), reporter=reporter)
    if as_json:
        print(json.dumps({"outdated": [item.to_json() for item in found]}, indent=2))
        return
    if not found:
        print("Nothing has a newer version")
        return
    print_table(["name", "now", "fits", "newest", ""], [_row(item) for item in found])
    if any(item.fits for item in found):
        print("\nTake what fits: dockyard lock --upgrade, or dockyard build --upgrade")


def _row(item: Newer) -> list[str]:
    what = {"base": "base image", "base-package": "Debian"}.get(item.kind, "")
    return [
        item.name,
        *(_shown(version) for version in (item.now, item.fits, item.newest)),
        what,
    ]


def _shown(version: str | None) -> str:
    if version is None:
        return "-"
    return version[:_SHORT] if version.startswith("sha256:") else version
