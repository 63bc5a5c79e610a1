"""`dockyard verify`: whether an image is what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import print_table, with_reporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.build.rebuild import Compared
    from dockyard.oci.image import Image
    from dockyard.oci.verify import Problem
    from dockyard.progress import Reporter


@click.command()
@click.argument("image")
@click.option(
    "--rebuild", is_flag=True, help="Make the layers again from wheels and packages, and compare."
)
@click.option(
    "--project",
    default=".",
    type=click.Path(path_type=Path),
    show_default=True,
    help="The folder that the image was built from, for --rebuild.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def verify(*, image: str, rebuild: bool, project: Path, as_json: bool, reporter: Reporter) -> None:
    """Read all of IMAGE, and check digests, sizes, documents and the files' paths.

    IMAGE is a name in the engine, oci:DIR, archive:FILE or registry:REFERENCE. With --rebuild its
    layers are made again from the project, which finds a layer that isn't what its wheels give,
    such as one from a layer index that somebody has tampered with.
    """
    from dockyard.build.rebuild import rebuild_and_compare
    from dockyard.build.request import BuildRequest
    from dockyard.cli.source import readable_image

    with readable_image(image, reporter) as opened:
        problems = _problems(opened, reporter)
        compared: Sequence[Compared] = ()
        if rebuild:
            request = BuildRequest(folder=project, platforms=(opened.platform,))
            compared = rebuild_and_compare(request, opened, reporter=reporter)
        count = len(opened.layers)
    different = [item for item in compared if item.verdict == "differs"]
    if as_json:
        value = {
            "image": image,
            "problems": [{"where": each.where, "what": each.what} for each in problems],
            "layers": [item.to_json() for item in compared],
        }
        print(json.dumps(value, indent=2))
    else:
        for each in problems:
            print(f"{each.where}: {each.what}")
        if compared:
            rows = [[item.title, item.diff_id[7:19], item.verdict] for item in compared]
            print_table(["layer", "diff id", "made again"], rows)
        if not problems and not different:
            print(f"{image} is what it says: {count} layers")
    if problems or different:
        raise SystemExit(1)


def _problems(image: Image, reporter: Reporter) -> list[Problem]:
    """What is wrong with the image; of layers that Dockyard made, also what it promises."""
    from dockyard.oci.verify import Problem, check_documents, verify_layer

    problems = [Problem(where="manifest", what=what) for what in check_documents(image)]
    for number, layer in enumerate(image.layers):
        title = f"Reading layer {number + 1} of {len(image.layers)}"
        with reporter.task(title, total=layer.descriptor.size):
            found = verify_layer(layer, ours=layer.created_by.startswith("dockyard "))
        problems += [Problem(where=f"layer {number}", what=what) for what in found]
    return problems
