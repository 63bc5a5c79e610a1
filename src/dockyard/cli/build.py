"""`dockyard build`: a project folder becomes an image."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import (
    format_seconds,
    format_size,
    print_table,
    use_colour,
    with_reporter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockyard.build.api import BuiltImage, PlannedImage
    from dockyard.build.request import BuildRequest, Target
    from dockyard.engine.api import Engine
    from dockyard.progress import Reporter

_WIDE = 48


def build_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that change what is built, as `config` overrides by configuration key."""
    options = [
        click.option(
            "--base", help="Base: bookworm, trixie, or a local image as oci:DIR or archive:FILE."
        ),
        click.option("--python", help="Python version of the image, such as 3.11."),
        click.option(
            "--accelerator",
            type=click.Choice(["auto", "cpu", "cuda"]),
            help="Which builds of the frameworks to take.",
        ),
        click.option(
            "--bytecode",
            type=click.Choice(["profile", "all", "none"]),
            help="Which modules to compile ahead; profile: those that start-up imports.",
        ),
        click.option("--trim/--no-trim", default=None, help="Leave out tests, headers and stubs."),
        click.option(
            "--compression", type=click.Choice(["gzip", "zstd"]), help="How layers are compressed."
        ),
        click.option("--platform", help="Platform of the image: linux/amd64 or linux/arm64."),
        click.option("--upgrade", is_flag=True, help="Resolve anew, ignoring earlier results."),
        click.option(
            "--locked", is_flag=True, help="Fail when pylock.toml is missing or not current."
        ),
        click.option("--offline", is_flag=True, help="Use only what the cache holds."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="Name of the image.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="TARGET",
    help="docker, oci:DIR or archive:FILE.tar; may be repeated. Default: docker if one answers.",
)
@build_options
@click.option("--dry-run", is_flag=True, help="Print the plan and build nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def build(
    *,
    folder: Path,
    tags: tuple[str, ...],
    outputs: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    reporter: Reporter,
    **options: Any,
) -> None:
    """Build an image from the project in FOLDER, without a daemon.

    With no configuration the dependencies, the Python version, the start command, the port and
    the model files are detected; `dockyard build --dry-run` says what and why.
    """
    from dockyard.build.api import build_project, plan_project

    started = time.monotonic()
    request = build_request(folder, tags=tags, **options)
    if dry_run:
        plan = plan_project(request, reporter=reporter)
        if as_json:
            print(json.dumps(plan.to_json(), indent=2))
        else:
            print_plan(plan)
        return
    targets, engine = choose_targets(outputs)
    image = build_project(request, targets=targets, engine=engine, reporter=reporter)
    if as_json:
        print(json.dumps(image.to_json(), indent=2))
    else:
        print_built(image, time.monotonic() - started)


def build_request(
    folder: Path, *, tags: tuple[str, ...] = (), platform: str | None = None, **options: Any
) -> BuildRequest:
    """Make the build's request from the command line's options."""
    from dockyard.build.request import BuildRequest

    switches = {name: options.pop(name, False) for name in ("upgrade", "locked", "offline")}
    overrides = {key: value for key, value in options.items() if value is not None}
    return BuildRequest.parse(folder, platform=platform, overrides=overrides, tags=tags, **switches)


def build_for_run(folder: Path, *, engine: Engine, reporter: Reporter) -> str:
    """Build a folder's project into the engine; return the reference to run."""
    from dockyard.build.api import build_project
    from dockyard.build.request import Target

    started = time.monotonic()
    image = build_project(
        build_request(folder),
        targets=[Target(kind="docker")],
        engine=engine,
        reporter=reporter,
    )
    seconds = format_seconds(time.monotonic() - started)
    reporter.note(f"Built {image.references[0]} in {seconds}")
    return image.references[0]


def choose_targets(outputs: Sequence[str]) -> tuple[list[Target], Engine | None]:
    """The outputs that were asked for, else the engine that answers; and that engine."""
    from dockyard.build.request import Target
    from dockyard.engine.connect import find_engine
    from dockyard.errors import EngineError, UsageError

    targets = [Target.parse(text) for text in outputs] or [Target(kind="docker")]
    if not any(target.kind == "docker" for target in targets):
        return targets, None
    try:
        return targets, find_engine()
    except EngineError as error:
        if outputs:
            raise
        raise UsageError(
            f"there is no engine to load the image into: {error.what}",
            hint="Start Docker or Podman, or say where the image goes: "
            "-o oci:DIR or -o archive:FILE.tar.",
        ) from error


def print_plan(planned: PlannedImage) -> None:
    """Print a plan for people: the decisions, then the layers."""
    plan = planned.plan
    print(f"{', '.join(plan.references)} for {plan.platform}")
    print()
    width = max(len(item.subject) for item in plan.decisions)
    dim, plain = ("\033[2m", "\033[0m") if use_colour(sys.stdout) else ("", "")
    for item in plan.decisions:
        print(f"  {item.subject:<{width}}  {item.value}  {dim}({item.why}){plain}")
    print()
    rows = [
        [
            layer.title,
            "?" if layer.size is None else format_size(layer.size),
            "cached" if cached else "",
            layer.origin if len(layer.origin) <= _WIDE else layer.origin[: _WIDE - 1] + "…",
            layer.why,
        ]
        for layer, cached in zip(plan.layers, planned.cached, strict=True)
    ]
    print_table(["layer", "size", "cache", "origin", "why"], rows, right="size")
    total = sum(layer.size or 0 for layer in plan.layers)
    print(f"\nAbout {format_size(total)} compressed in {len(plan.layers)} layers.")
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def print_built(image: BuiltImage, seconds: float) -> None:
    """Print what was built and where it is."""
    names = ", ".join(image.references)
    size = format_size(image.image.size)
    count = len(image.image.layers)
    print(f"Built {names}: {size} compressed, {count} layers, in {format_seconds(seconds)}")
    print(f"  digest  {image.image.digest}")
    for target in image.targets:
        if target.kind == "docker":
            print(f"  run it  dockyard run {image.references[0]}")
        else:
            print(f"  at      {target.path}")
