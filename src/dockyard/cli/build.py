"""`dockyard build`: a project folder becomes an image."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import format_seconds, format_size, with_reporter
from dockyard.cli.plan import print_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockyard.build.api import BuiltProject
    from dockyard.build.request import BuildRequest, Target
    from dockyard.cli.soon import EngineSoon
    from dockyard.engine.api import Engine
    from dockyard.engine.connect import FoundEngine
    from dockyard.oci.image import Image
    from dockyard.progress import Reporter


def build_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that change what is built, as `config` overrides by configuration key."""
    options = [
        click.option("--base", help="Base: bookworm, trixie, an image, oci:DIR or archive:FILE."),
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
        click.option(
            "--platform",
            "platforms",
            multiple=True,
            metavar="PLATFORM",
            help="linux/amd64, linux/arm64, or both with a comma between; may be repeated.",
        ),
        click.option("--upgrade", is_flag=True, help="Resolve anew, ignoring earlier results."),
        click.option(
            "--locked", is_flag=True, help="Fail when pylock.toml is missing or not current."
        ),
        click.option("--offline", is_flag=True, help="Use only what the cache holds."),
        click.option(
            "--insecure",
            is_flag=True,
            help="Allow plain HTTP and any certificate with the registries named here.",
        ),
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
    help="docker, oci:DIR, archive:FILE.tar or registry:NAME; may be repeated. Default: docker if "
    "one answers.",
)
@click.option("--push", is_flag=True, help="Push the image to the registry that its name says.")
@click.option(
    "--layer-index/--no-layer-index",
    default=None,
    help="Whether known layers are looked up in the registry, and new ones entered.",
)
@build_options
@click.option(
    "-f",
    "--file",
    "dockerfile",
    type=click.Path(path_type=Path),
    help="Build this Dockerfile instead, without an engine where it can be understood.",
)
@click.option(
    "--builder",
    type=click.Choice(["auto", "direct", "docker", "buildah"]),
    default="auto",
    help="With -f, who builds: Dockyard alone, an engine, or an engine where Dockyard can't.",
)
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME=VALUE", help="With -f.")
@click.option("--target", "stage", default="", metavar="STAGE", help="With -f: the stage to build.")
@click.option("--dry-run", is_flag=True, help="Print the plan and build nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_reporter
def build(
    *,
    folder: Path,
    tags: tuple[str, ...],
    outputs: tuple[str, ...],
    push: bool,
    dockerfile: Path | None,
    builder: Any,
    build_args: tuple[str, ...],
    stage: str,
    dry_run: bool,
    as_json: bool,
    reporter: Reporter,
    **options: Any,
) -> None:
    """Build an image from the project in FOLDER, without a daemon.

    With --push it goes to its registry; layers that the registry has are neither fetched nor made.

    With no configuration the dependencies, the Python version, the start command, the port and
    the model files are detected; `dockyard build --dry-run` says what and why.
    """
    from dockyard.build.api import build_project, plan_project

    if dockerfile is not None:
        from dockyard.cli.build_dockerfile import build_from_dockerfile

        build_from_dockerfile(
            folder,
            dockerfile,
            builder=builder,
            stage=stage,
            build_args=build_args,
            platforms=options["platforms"],
            tags=tags,
            outputs=(*outputs, "registry") if push else outputs,
            insecure=options["insecure"],
            offline=options["offline"],
            as_json=as_json,
            reporter=reporter,
        )
        return
    started = time.monotonic()
    request = build_request(folder, tags=tags, **options)
    if dry_run:
        plan = plan_project(request, reporter=reporter)
        if as_json:
            print(json.dumps(plan.to_json(), indent=2))
        else:
            print_plan(plan, reporter=reporter)
        return
    targets, engine = choose_targets((*outputs, "registry") if push else outputs)
    built = build_project(request, targets=targets, engine=engine, reporter=reporter)
    if as_json:
        print(json.dumps(built.to_json(), indent=2))
    else:
        print_built(built, time.monotonic() - started)


def build_request(
    folder: Path,
    *,
    tags: tuple[str, ...] = (),
    platforms: Sequence[str] = (),
    **options: Any,
) -> BuildRequest:
    """Make the build's request from the command line's options."""
    from dockyard.build.request import BuildRequest

    switches = {
        name: options.pop(name, False) for name in ("upgrade", "locked", "offline", "insecure")
    }
    overrides = {key: value for key, value in options.items() if value is not None}
    return BuildRequest.parse(
        folder,
        platforms=platforms,
        overrides=overrides,
        tags=tags,
        **switches,
    )


def build_for_run(folder: Path, *, engine: Engine, reporter: Reporter) -> str:
    """Build a folder's project into the engine; return the reference to run."""
    from dockyard.build.api import build_project
    from dockyard.build.request import Target

    started = time.monotonic()
    built = build_project(
        build_request(folder),
        targets=[Target(kind="docker")],
        engine=engine,
        reporter=reporter,
    )
    seconds = format_seconds(time.monotonic() - started)
    reporter.note(f"Built {built.references[0]} in {seconds}")
    return built.references[0]


def choose_targets(outputs: Sequence[str]) -> tuple[list[Target], EngineSoon | None]:
    """The outputs that were asked for, else the engine; and that engine, being looked for."""
    from dockyard.build.request import Target
    from dockyard.cli.soon import EngineSoon

    targets = [Target.parse(text) for text in outputs] or [Target(kind="docker")]
    if not any(target.kind == "docker" for target in targets):
        return targets, None
    return targets, EngineSoon(lambda: _find_engine(asked_for=bool(outputs)))


def _find_engine(*, asked_for: bool) -> FoundEngine:
    from dockyard.engine.connect import find_engine
    from dockyard.errors import EngineError, UsageError

    try:
        return find_engine()
    except EngineError as error:
        if asked_for:
            raise
        raise UsageError(
            f"there is no engine to load the image into: {error.what}",
            where=error.where,
            hint="Start Docker or Podman, or say where the image goes: "
            "--push, -o oci:DIR or -o archive:FILE.tar.",
        ) from error


def print_built(project: BuiltProject, seconds: float) -> None:
    """Print what was built and where it is."""
    names = ", ".join(project.references)
    first = project.images[0].image
    if len(project.images) == 1:
        print(f"Built {names}: {_measures(first)}, in {format_seconds(seconds)}")
    else:
        print(f"Built {names} for {len(project.images)} platforms in {format_seconds(seconds)}")
        width = max(len(str(built.image.platform)) for built in project.images)
        for built in project.images:
            print(f"  {built.image.platform!s:<{width}}  {_measures(built.image)}")
    print(f"  digest  {project.digest}")
    for target in project.targets:
        if target.kind == "docker":
            print(f"  run it  dockyard run {project.references[0]}")
        elif target.path is not None:
            print(f"  at      {target.path}")
    for name in project.pushed:
        print(f"  pushed  {name} ({format_size(project.uploaded)} sent)")


def _measures(image: Image) -> str:
    return f"{format_size(image.size)} compressed, {len(image.layers)} layers"
