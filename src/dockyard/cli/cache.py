"""`dockyard cache`: what the cache folder holds, and making it smaller."""

from __future__ import annotations

import json
import re

import click

from dockyard.cli.output import format_size, print_table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WHAT = {
    "blobs": "wheels, Debian packages, layers of bases, and layers made here",
    "records": "resolutions, and what is known of layers and bases",
    "unpacked": "Pythons of bases, for bytecode",
    "pieces": "which bytecode there is",
    "uv": "what the resolver has seen of the indexes",
    "provided": "metadata of what bases have installed",
    "tmp": "what is being written",
}


@click.group()
def cache() -> None:
    """Look at the cache folder, or make it smaller.

    Everything in it can be had or made again. It is DOCKYARD_CACHE, or dockyard below
    XDG_CACHE_HOME or ~/.cache.
    """


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(*, as_json: bool) -> None:
    """Show what the cache holds, by part."""
    from dockyard.cache import Cache

    found = Cache()
    parts = [part for part in found.usage() if part.files]
    total = sum(part.size for part in parts)
    if as_json:
        value = {
            "folder": str(found.root),
            "size": total,
            "parts": [
                {"name": part.name, "size": part.size, "files": part.files} for part in parts
            ],
        }
        print(json.dumps(value, indent=2))
        return
    print(f"{found.root}  {format_size(total)}\n")
    rows = [
        [part.name, format_size(part.size), str(part.files), _WHAT.get(part.name, "")]
        for part in parts
    ]
    print_table(["part", "size", "files", "what it is"], rows, right="size")


@cache.command()
@click.option(
    "--older-than",
    default="30d",
    show_default=True,
    metavar="TIME",
    help="What wasn't used for this long goes: 12h, 7d, 4w.",
)
@click.option("--all", "everything", is_flag=True, help="Everything goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def prune(*, older_than: str, everything: bool, as_json: bool) -> None:
    """Remove what wasn't used for a while; a build that needs it gets or makes it again.

    Don't prune while a build runs: it may need what goes.
    """
    from dockyard.cache import Cache

    removed = Cache().prune(unused_for=-1.0 if everything else _seconds(older_than))
    if as_json:
        print(json.dumps({"removed": removed.size, "files": removed.files}, indent=2))
        return
    files = "1 file" if removed.files == 1 else f"{removed.files} files"
    print(f"Removed {format_size(removed.size)} in {files}")


def _seconds(text: str) -> float:
    from dockyard.errors import UsageError

    match = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is no time", hint="Write a number and a unit: 30m, 12h, 7d or 4w."
        )
    return float(match[1]) * _UNITS[match[2]]
