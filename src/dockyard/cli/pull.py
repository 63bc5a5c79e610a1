"""`dockyard pull`: an image from a registry into the engine, a layout or an archive."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import format_seconds, format_size, with_reporter
from dockyard.cli.registry import insecure_option, open_registries, parse_platform

if TYPE_CHECKING:
    from dockyard.oci.image import Image
    from dockyard.progress import Reporter


@click.command()
@click.argument("reference")
@click.option(
    "-o",
    "--output",
    default="docker",
    metavar="TARGET",
    help="docker (the default), oci:DIR or archive:FILE.tar.",
)
@click.option("--platform", metavar="PLATFORM", help="Default: the engine's, or this machine's.")
@insecure_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def pull(
    *,
    reference: str,
    output: str,
    platform: str | None,
    insecure: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Pull an image for one platform; layers that the engine or the cache has aren't fetched.

    A pull that was interrupted goes on where it stopped. `dockyard copy` takes all platforms.
    """
    from dockyard.build.request import Target
    from dockyard.errors import UsageError
    from dockyard.oci.reference import Reference

    started = time.monotonic()
    target = Target.parse(output)
    if target.kind == "registry":
        raise UsageError(
            "an image is pulled to this machine",
            where=f"-o {output}",
            hint="To bring it from one registry to another, use dockyard copy.",
        )
    name = Reference.parse(reference)
    wanted = parse_platform(platform)
    with ExitStack() as stack:
        registries, cache = stack.enter_context(open_registries([name], insecure=insecure))
        if target.kind == "docker":
            from dockyard.build.pulling import pull_into_engine
            from dockyard.engine.connect import find_engine

            image = pull_into_engine(
                registries,
                name,
                wanted,
                engine=find_engine(),
                cache=cache,
                reporter=reporter,
            )
        else:
            from dockyard.build.pulling import pull_into_file

            image = pull_into_file(registries, name, wanted, target, cache=cache, reporter=reporter)
    if as_json:
        print(json.dumps(_to_json(name, target, image), indent=2))
        return
    print(f"Pulled {name.familiar()} for {image.platform} into {target}", end="")
    print(f" in {format_seconds(time.monotonic() - started)}")
    print(f"  digest  {image.digest}")
    layers = f"{len(image.layers)} layer{'' if len(image.layers) == 1 else 's'}"
    print(f"  size    {format_size(image.size)} compressed, {layers}")
    if target.kind == "docker":
        print(f"  run it  dockyard run {name.familiar() if name.tag else str(image.id)[7:19]}")


def _to_json(name: object, target: object, image: Image) -> dict[str, object]:
    return {
        "reference": str(name),
        "target": str(target),
        "platform": str(image.platform),
        "digest": str(image.digest),
        "id": str(image.id),
        "size": image.size,
        "layers": len(image.layers),
    }
