"""`dockyard dockerfile`: the Dockerfile that makes what Dockyard builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import with_reporter

if TYPE_CHECKING:
    from dockyard.build.dockerfile import GeneratedDockerfile
    from dockyard.build.request import BuildRequest
    from dockyard.progress import Reporter


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("-o", "--output", "name", default="Dockerfile", show_default=True, metavar="FILE")
@click.option("--base", metavar="IMAGE", help="The image to stand on.")
@click.option("--pin", is_flag=True, help="Ask the registry for the base's digest, and write it.")
@click.option("--print", "only_print", is_flag=True, help="Print the Dockerfile; write nothing.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.option("--offline", is_flag=True, help="Use only what the cache holds.")
@with_reporter
def dockerfile(
    *,
    folder: Path,
    name: str,
    base: str | None,
    pin: bool,
    only_print: bool,
    force: bool,
    as_json: bool,
    offline: bool,
    reporter: Reporter,
) -> None:
    """Write the Dockerfile that makes what `dockyard build` makes of the project in FOLDER.

    Beside it: an ignore file, which lets in what Dockyard takes, and pylock.toml, if there is none
    that is current.
    """
    from dockyard.build.request import BuildRequest
    from dockyard.errors import UsageError

    if "/" in name:
        raise UsageError("the Dockerfile belongs into the project's folder", where=name)
    request = BuildRequest(folder=folder, offline=offline)
    target = folder / name
    if not only_print and not force and target.exists() and not _is_ours(target):
        raise UsageError(
            "is there already, and Dockyard didn't write it",
            where=str(target),
            hint="Replace it with --force, or choose another name: -o dockyard.Dockerfile.",
        )
    made = _generate(request, base=base, pin=pin, reporter=reporter)
    for warning in made.warnings:
        reporter.warn(warning)
    if only_print:
        click.echo(made.text, nl=False)
        return
    written = _write(request, target, made, reporter)
    if as_json:
        print(json.dumps({"files": written}, indent=2))
        return
    for path in written:
        click.echo(f"Wrote {path}")


def _generate(
    request: BuildRequest, *, base: str | None, pin: bool, reporter: Reporter
) -> GeneratedDockerfile:
    from importlib.metadata import version

    from dockyard.build.compose import plan_image
    from dockyard.build.dockerfile import base_image, generate_dockerfile
    from dockyard.build.inputs import gather, platforms_of
    from dockyard.build.workshop import open_workshop

    with open_workshop(request, reporter=reporter) as shop:
        platform = platforms_of(request)[0]
        inputs = gather(request, platform, shop=shop)
        plan = plan_image(inputs, ())
        image = base or base_image(inputs)
        if pin:
            image = _pinned(image)
        return generate_dockerfile(inputs, plan, base=image, uv=version("uv"))


def _pinned(image: str) -> str:
    """The image with the digest that its registry has for the tag now."""
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.connect import HttpRegistries
    from dockyard.oci.registry.pull import fetch_root

    if "@" in image:
        return image
    with HttpRegistries() as registries:
        root = fetch_root(registries, Reference.parse(image))
    return f"{image}@{root.digest}"


def _is_ours(path: Path) -> bool:
    from dockyard.build.dockerfile import MARK

    try:
        return path.read_text(encoding="utf-8", errors="replace").startswith(MARK)
    except OSError:
        return False


def _write(
    request: BuildRequest, target: Path, made: GeneratedDockerfile, reporter: Reporter
) -> list[str]:
    """Write the files, the Dockerfile last; return their names."""
    from dockyard.build.dockerfile import LOCK
    from dockyard.build.lock import check_lock, lock_project
    from dockyard.errors import BuildError, UsageError

    written = []
    if made.needs_lock:
        try:
            check_lock(request, reporter=reporter)
        except BuildError:
            lock_project(request, reporter=reporter)
            written.append(LOCK)
    ignore = target.with_name(f"{target.name}.dockerignore")
    for path, text in ((ignore, made.ignore), (target, made.text)):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"can't be written: {error.strerror or error}", where=str(path)
            ) from None
        written.append(path.name)
    return written
