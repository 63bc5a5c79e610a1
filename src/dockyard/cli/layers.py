"""`dockyard layers`: what fills an image, and the share that could go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import format_size, print_table, with_reporter

if TYPE_CHECKING:
    from dockyard.layers.weigh import Weights
    from dockyard.progress import Reporter

_SHOWN = 12


@click.command()
@click.argument("image")
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path), help="Write a page with treemaps."
)
@click.option(
    "--svg", "svg_file", type=click.Path(path_type=Path), help="Write the treemap of folders."
)
@click.option("--all", "show_all", is_flag=True, help="Show every row of the tables.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def layers(
    *,
    image: str,
    html_file: Path | None,
    svg_file: Path | None,
    show_all: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Say what fills IMAGE: layers, kinds, packages, folders, and what could go.

    IMAGE is a name in the engine, oci:DIR, archive:FILE or registry:REFERENCE. Sizes are of the
    unpacked files.
    """
    from dockyard.cli.source import readable_image
    from dockyard.layers.read import read_contents
    from dockyard.layers.treemap import by_folder, html, svg
    from dockyard.layers.weigh import weigh

    with readable_image(image, reporter) as opened:
        contents = read_contents(opened, reporter)
        weights = weigh(opened, contents)
    if html_file is not None:
        _write(html_file, html(contents, weights, name=image), reporter)
    if svg_file is not None:
        _write(svg_file, svg(by_folder(contents), title=image), reporter)
    if as_json:
        print(json.dumps(weights.to_json(), indent=2))
    else:
        _print(image, weights, most=None if show_all else _SHOWN)


def _write(path: Path, text: str, reporter: Reporter) -> None:
    from dockyard.errors import UsageError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't be written: {error.strerror or error}", where=str(path)) from None
    reporter.note(f"Wrote {path}")


def _print(name: str, weights: Weights, *, most: int | None) -> None:
    from dockyard.build.describe import origin_of

    print(
        f"{name}  {format_size(weights.size)} in {weights.files} files, "
        f"{format_size(weights.stored)} stored\n"
    )
    print_table(
        ["#", "layer", "size", "stored", "hidden", "mostly"],
        [
            [
                str(layer.number),
                origin_of(layer.made_by).title[:60] or "-",
                format_size(layer.size),
                format_size(layer.stored),
                format_size(layer.hidden) if layer.hidden else "",
                layer.kinds[0].name if layer.kinds else "",
            ]
            for layer in weights.layers
        ],
        right="# size stored hidden",
        shrink="layer",
    )
    for title, rows in (
        ("kind", weights.kinds),
        ("package", weights.packages),
        ("folder", weights.folders),
    ):
        if not rows:
            continue
        print()
        print_table(
            [title, "size", "share", "files"],
            [
                [row.name, format_size(row.size), _share(row.size, weights), str(row.files)]
                for row in rows[:most]
            ],
            right="size share files",
            shrink=title,
        )
        if most is not None and len(rows) > most:
            print(f"… and {len(rows) - most} more (--all shows them)")
    print()
    if not weights.spare:
        print("Nothing of it could go.")
        return
    print_table(
        ["could go", "size", "files", "how"],
        [
            [item.name, format_size(item.size), str(item.files), item.advice]
            for item in weights.spare
        ],
        right="size files",
        shrink="how",
    )
    share = _share(weights.spare_size, weights)
    print(f"{format_size(weights.spare_size)} of {format_size(weights.size)} could go: {share}.")


def _share(size: int, weights: Weights) -> str:
    return f"{size / weights.size:.1%}" if weights.size else "0%"
