"""`dockyard cp`: files into and out of containers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dockyard.cli import complete
from dockyard.cli.chosen import need_container
from dockyard.errors import UsageError


@click.command()
@click.argument("source", metavar="SOURCE", shell_complete=complete.containers)
@click.argument("target", metavar="TARGET", shell_complete=complete.containers)
def cp(*, source: str, target: str) -> None:
    """Copy a file or folder between here and a container: CONTAINER:PATH.

    A target that is a folder gets the source in it; SOURCE/. means what is in the folder. "-" is a
    tar on the standard input or output.
    """
    from dockyard.engine import copying
    from dockyard.engine.connect import find_engine

    inside, outside = _split(source), _split(target)
    if (inside is None) == (outside is None):
        raise UsageError(
            "one of the two is a path in a container: CONTAINER:PATH",
            hint="From one container to another: copy it here first.",
        )
    engine = find_engine()
    if inside is not None:
        state = need_container(engine, inside[0])
        if target == "-":
            copying.write_tar(engine, state.id, inside[1], sys.stdout.buffer)
        else:
            copying.copy_out(engine, state.id, inside[1], Path(target))
    elif outside is not None:
        state = need_container(engine, outside[0])
        if source == "-":
            copying.read_tar(engine, state.id, sys.stdin.buffer, outside[1])
        else:
            # A Path forgets what "folder/." says.
            copying.copy_in(engine, state.id, source, outside[1])


def _split(text: str) -> tuple[str, str] | None:
    """The container and the path; None for a path here, which may have a colon after a slash."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name or name in ("", ".", ".."):
        return None
    if not path:
        raise UsageError(f"{text!r} names no path in the container", hint=f"Write {text}/PATH.")
    return name, path
