"""`dockyard image`: the images of the engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from dockyard.cli import complete
from dockyard.cli.chosen import for_each
from dockyard.cli.output import format_size, print_table
from dockyard.cli.ps import age
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from dockyard.engine.api import Engine, LocalImage

_NO_DATE = "1980-"  # Images that are the same from everywhere have no date of their own.


@click.group()
def image() -> None:
    """List, name and remove images."""


@image.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those of others too.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def ls(*, everything: bool, quiet: bool, as_json: bool) -> None:
    """List the images that Dockyard built."""
    from dockyard.engine.connect import find_engine
    from dockyard.engine.prune import is_ours

    found = [i for i in find_engine().images() if everything or is_ours(i)]
    if quiet:
        for one in found:
            print(one.id.removeprefix("sha256:")[:12])
        return
    if as_json:
        facts = [
            {
                "id": i.id,
                "references": list(i.references),
                "platform": f"{i.os}/{i.architecture}",
                "size": i.size,
                "created": i.created or None,
                "labels": dict(i.labels),
                "layers": list(i.layers),
            }
            for i in found
        ]
        print(json.dumps(facts, indent=2))
        return
    rows = [
        [
            name,
            i.id.removeprefix("sha256:")[:12],
            i.architecture,
            format_size(i.size),
            "" if i.created.startswith(_NO_DATE) else age(i.created),
        ]
        for i in found
        for name in i.references or ("<none>",)
    ]
    print_table(["name", "id", "for", "size", "made"], rows, right="size", shrink="name")


@image.command()
@click.argument("images", nargs=-1, required=True, shell_complete=complete.images)
@click.option("-f", "--force", is_flag=True, help="Also where a stopped container was made of it.")
def rm(*, images: tuple[str, ...], force: bool) -> int:
    """Remove names of images, and images with their last name."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()

    def act(name: str) -> str | None:
        if engine.image(name) is None and not force:
            raise _absent(engine, name)
        engine.remove_image(name, force=force)
        return name

    return for_each(images, act)


@image.command()
@click.argument("source", shell_complete=complete.images)
@click.argument("target")
def tag(*, source: str, target: str) -> None:
    """Give an image another name."""
    from dockyard.engine.connect import find_engine
    from dockyard.oci.reference import Reference

    Reference.parse(target)
    engine = find_engine()
    _need(engine, source)
    engine.tag(source, target)
    print(target)


@image.command()
@click.argument("name", metavar="IMAGE", shell_complete=complete.images)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def history(*, name: str, as_json: bool) -> None:
    """Show what made an image's layers, the newest first."""
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    _need(engine, name)
    lines = engine.history(name)[::-1]
    if as_json:
        print(json.dumps([{"created_by": x.created_by, "size": x.size} for x in lines], indent=2))
        return
    rows = [[format_size(line.size), line.created_by] for line in lines]
    print_table(["size", "created by"], rows, right="size", shrink="created by")


def _need(engine: Engine, name: str) -> LocalImage:
    found = engine.image(name)
    if found is None:
        raise _absent(engine, name)
    return found


def _absent(engine: Engine, name: str) -> EngineError:
    from difflib import get_close_matches

    names = [reference for one in engine.images() for reference in one.references]
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "List them: dockyard image ls --all"
    return EngineError(f"the engine has no image {name}", hint=hint)
