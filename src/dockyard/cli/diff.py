"""`dockyard diff`: what changed between two images."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import format_size, with_reporter

if TYPE_CHECKING:
    from dockyard.build.compare import Changes, Difference
    from dockyard.progress import Reporter

_SHOWN = 20


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--files", "all_files", is_flag=True, help="Show every file that changed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def diff(*, before: str, after: str, all_files: bool, as_json: bool, reporter: Reporter) -> None:
    """Say what changed from image BEFORE to image AFTER: packages, files, environment, start.

    Each is a name in the engine, oci:DIR, archive:FILE or registry:REFERENCE.
    """
    from dockyard.build.compare import compare_images
    from dockyard.cli.source import readable_image

    with ExitStack() as stack:
        old = stack.enter_context(readable_image(before, reporter))
        new = stack.enter_context(readable_image(after, reporter))
        difference = compare_images(old, new)
    if as_json:
        print(json.dumps(difference.to_json(), indent=2))
    else:
        _print(difference, all_files=all_files)


def _print(difference: Difference, *, all_files: bool) -> None:
    if difference.nothing:
        print("No difference in packages, files, environment or start.")
    _print_part("packages", difference.packages)
    _print_part("environment", difference.env)
    _print_part("start and labels", difference.config)
    _print_part("files", difference.files, limit=None if all_files else _SHOWN)
    sizes = " -> ".join(format_size(size) for size in difference.sizes)
    print(
        f"{difference.same_layers} of {difference.layers[1]} layers are the same; "
        f"compressed size {sizes}"
    )


def _print_part(title: str, part: Changes, *, limit: int | None = None) -> None:
    if not part:
        return
    print(f"{title}:")
    for number, (key, (old, new)) in enumerate(part.items()):
        if limit is not None and number == limit:
            print(f"  … and {len(part) - limit} more (--files shows all)")
            break
        if old is None:
            print(f"  + {key}  {new}")
        elif new is None:
            print(f"  - {key}  {old}")
        else:
            print(f"  ~ {key}  {old} -> {new}" if old != new else f"  ~ {key}  {old}, other bytes")
    print()
