"""`dockyard up`: build what must be built, start the stack, say where it answers, and stay with it.

Rules: starting is Compose's business. A Compose file that is there is used as it is; without one
the stack is made of the configuration, in .dockyard. What would fail in the middle (a port, a name,
a password) is found before anything starts. In the foreground the logs follow, and Ctrl-C stops the
stack; in the background it stays.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import format_seconds, with_reporter
from dockyard.errors import StackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.engine.connect import FoundEngine
    from dockyard.progress import Reporter
    from dockyard.stack.existing import Found, Project
    from dockyard.stack.program import Compose
    from dockyard.stack.state import Member

_PATIENCE = 300  # Seconds until everything must be healthy.
_LAST_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A stack that is ready to be started. made: secrets that were made just now."""

    compose: Compose
    project: Project
    made: tuple[str, ...] = ()


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("-d", "--detach", is_flag=True, help="Leave it running in the background.")
@click.option("--build", "anew", is_flag=True, help="Build the engine's own images anew as well.")
@click.option("--no-build", is_flag=True, help="Build nothing; use the images that are there.")
@click.option("--wait", "wait", is_flag=True, help="With -d: return when everything is healthy.")
@click.option(
    "--scale", multiple=True, metavar="SERVICE=N", help="Containers of a service; repeatable."
)
@click.option("-w", "--watch", is_flag=True, help="Build and swap a service when its code changes.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=_PATIENCE,
    show_default=True,
    metavar="SECONDS",
    help="Give up when it isn't healthy by then.",
)
@click.option("--json", "as_json", is_flag=True, help="With -d: print the containers as JSON.")
@with_reporter
def up(
    *,
    folder: Path,
    detach: bool,
    anew: bool,
    no_build: bool,
    wait: bool,
    scale: tuple[str, ...],
    watch: bool,
    timeout: int,
    as_json: bool,
    reporter: Reporter,
) -> int:
    """Start the stack of FOLDER: the app, and the services around it.

    Uses the folder's Compose file, or what [stack] of the configuration asks for. Services with
    `build:` are built by Dockyard where it can, else by the engine.
    """
    from dockyard.engine.connect import find_engine
    from dockyard.stack.state import members

    detach = detach or wait
    if as_json and not detach:
        raise UsageError("--json needs -d", hint="In the foreground stdout is the containers'.")
    if watch and detach:
        raise UsageError("--watch and -d exclude each other", hint="Watching needs the terminal.")
    if anew and no_build:
        raise UsageError("--build and --no-build exclude each other")
    counts = _counts(scale)
    started = time.monotonic()
    opened = open_stack(folder, reporter)
    _check_services(opened.project, counts)
    engine = find_engine()
    _check(opened, engine)
    built: dict[str, str] = {}
    if not no_build:
        built = build_services(opened, engine, anew=anew, reporter=reporter)
    compose = _merged(opened, built, reporter)
    waiting = wait or not detach
    try:
        _start(compose, opened.project, counts, timeout if waiting else None, reporter)
    except (KeyboardInterrupt, SystemExit):
        if not detach:
            _stop(compose, opened.project, reporter)
        raise
    found = members(compose)
    if as_json:
        print(json.dumps([_to_json(member, engine) for member in found], indent=2))
        return 0
    _say(found, engine, time.monotonic() - started, reporter)
    if detach:
        return 0
    return _stay(compose, opened, built, engine, watch=watch, reporter=reporter)


def open_stack(folder: Path, reporter: Reporter) -> Opened:
    """Find or make the folder's Compose file, and what Compose makes of it."""
    from dockyard.app.ignore import project_root
    from dockyard.stack.advice import advise
    from dockyard.stack.compose import compose_text
    from dockyard.stack.existing import compose_files, read_project
    from dockyard.stack.files import OWN_FOLDER, is_ours, make_secrets, write_stack
    from dockyard.stack.program import find_compose

    root = project_root(folder)
    files = compose_files(root)
    made: tuple[str, ...] = ()
    if not files:
        from dockyard.cli.compose import plan_folder

        _, stack = plan_folder(root, files_at=f"./{OWN_FOLDER}")
        written = write_stack(stack, root, root / OWN_FOLDER)
        files, made = (written.compose,), written.secrets
    elif is_ours(files[0]):
        from dockyard.cli.compose import plan_folder

        _, stack = plan_folder(root, files_at=".")
        made = make_secrets(stack, root)
        if files[0].read_text(encoding="utf-8") != compose_text(stack):
            reporter.warn(
                f"{files[0].name} isn't what the configuration asks for now: "
                "`dockyard compose` writes it anew"
            )
    compose = replace(find_compose(root), files=files)
    project = read_project(compose)
    for path in files:
        for item in () if is_ours(path) else advise(path):
            reporter.note(f"{path.name}:{item.line}: {item.what}\n    better: {item.better}")
    return Opened(compose=compose, project=project, made=made)


def find_stack(folder: Path) -> Compose:
    """The folder's stack as it was started, for commands that only ask or stop."""
    from dockyard.app.ignore import project_root
    from dockyard.stack.existing import compose_files
    from dockyard.stack.files import COMPOSE_NAME, OWN_FOLDER
    from dockyard.stack.program import find_compose

    root = project_root(folder)
    files = compose_files(root)
    own = root / OWN_FOLDER / COMPOSE_NAME
    if not files and own.is_file():
        files = (own,)
    if not files:
        raise StackError(
            "there is no stack here",
            where=str(root),
            hint="`dockyard up` starts one; run this in its folder.",
        )
    return replace(find_compose(root), files=files)


def _counts(scale: Sequence[str]) -> dict[str, int]:
    counts = {}
    for text in scale:
        service, equals, number = text.partition("=")
        if not (equals and service and number.isascii() and number.isdigit()):
            raise UsageError(f"--scale {text!r} isn't SERVICE=NUMBER", hint="Such as --scale web=3")
        counts[service] = int(number)
    return counts


def _check_services(project: Project, counts: dict[str, int]) -> None:
    known = [service.name for service in project.services]
    for name in counts:
        if name not in known:
            raise UsageError(
                f"--scale names {name!r}, which is no service", hint=f"There are {', '.join(known)}"
            )


def _check(opened: Opened, engine: FoundEngine) -> None:
    """Find out what would fail, before anything is built."""
    from dockyard.stack.checks import check_name, check_password, check_ports
    from dockyard.stack.state import members

    project = opened.project
    check_name(project, opened.compose)
    volumes = [volume.name for volume in engine.volumes(label=None)]
    try:
        check_password(opened.made, volumes, project.name)
    except StackError:
        # The wrong password isn't kept: it would hide the mistake from the next start.
        (project.folder / ".dockyard/secrets/db-password").unlink(missing_ok=True)
        raise
    own = [
        (port.address, port.host) for member in members(opened.compose) for port in member.published
    ]
    holders = {
        port.host: state.name
        for state in engine.containers(label=None)
        if not state.ended
        for port in state.ports
        if port.host
    }
    if engine.info.address == "127.0.0.1":
        check_ports(project, own, holders)


def build_services(
    opened: Opened,
    engine: FoundEngine,
    *,
    anew: bool,
    reporter: Reporter,
    only: Sequence[str] | None = None,
) -> dict[str, str]:
    """Build what is built from a folder; return the images that Dockyard made, by service."""
    from dockyard.stack.buildable import choose_builder

    built: dict[str, str] = {}
    folders: dict[tuple[Path, str], str] = {}
    for service in opened.project.services:
        if service.context is None or (only is not None and service.name not in only):
            continue
        choice = choose_builder(service)
        image = opened.project.image_of(service)
        if choice.by_dockyard:
            key = (service.context, image)
            if key not in folders:
                folders[key] = _build(service, image, engine, reporter)
            built[service.name] = folders[key]
        elif anew or engine.image(image) is None:
            reporter.note(f"{service.name} is built by the engine, because of {choice.why}")
            opened.compose.follow(
                f"Building {service.name}", "build", service.name, reporter=reporter
            )
    return built


def _build(service: Found, image: str, engine: FoundEngine, reporter: Reporter) -> str:
    from dockyard.build.api import build_project
    from dockyard.build.request import Target
    from dockyard.cli.build import build_request

    assert service.context is not None
    started = time.monotonic()
    project = build_project(
        build_request(service.context, tags=(image,)),
        targets=[Target(kind="docker")],
        engine=engine,
        reporter=reporter,
    )
    seconds = format_seconds(time.monotonic() - started)
    reporter.note(f"Built {project.references[0]} for {service.name} in {seconds}")
    return project.references[0]


def _merged(opened: Opened, built: dict[str, str], reporter: Reporter) -> Compose:
    """Compose with the file that says what Dockyard built."""
    from dockyard.engine.spec import MANAGED
    from dockyard.stack.override import owner_of, write_override

    for service in opened.project.services:
        if service.name in built and (owner := owner_of(service)):
            user, bind = owner
            reporter.note(
                f"{service.name} runs as {user}, the owner of the folder mounted at {bind.target}"
            )
    path = write_override(opened.project, built, f"{MANAGED}=true")
    return replace(opened.compose, files=(*opened.compose.files, path))


def _start(
    compose: Compose,
    project: Project,
    counts: dict[str, int],
    patience: int | None,
    reporter: Reporter,
) -> None:
    words = ["up", "--detach", "--no-build", "--remove-orphans"]
    if patience is not None:
        words += ["--wait", "--wait-timeout", str(patience)]
    words += [word for name, n in counts.items() for word in ("--scale", f"{name}={n}")]
    title = f"Starting {project.name}"
    try:
        try:
            compose.follow(title, *words, reporter=reporter)
        except StackError as error:
            # Someone removed a container while it waited to be started: it is made again.
            if "No such container" not in error.what:
                raise
            compose.follow(title, *words, reporter=reporter)
    except StackError as error:
        raise _with_last_lines(error, compose, project) from error


def _with_last_lines(error: StackError, compose: Compose, project: Project) -> StackError:
    """The error with the last lines of the services that don't work."""
    from dockyard.stack.state import members

    lines = []
    ill = {
        member.service: member.condition
        for member in members(compose)
        if member.health == "unhealthy" or member.state in ("exited", "restarting", "dead")
    }
    for service, condition in ill.items():
        said = compose.read(
            "logs", "--no-log-prefix", "--no-color", "--tail", str(_LAST_LINES), service
        )
        lines.append(f"The last lines of {service} ({condition}):")
        lines += [f"  {line}" for line in said.strip().splitlines()[-_LAST_LINES:]]
    if not lines:
        return error
    lines.append(f"What runs is left running: `dockyard down {project.folder}` stops it.")
    hint = "\n".join([error.hint, *lines] if error.hint else lines)
    return StackError(error.what, where=error.where, hint=hint)


def _say(found: Sequence[Member], engine: FoundEngine, seconds: float, reporter: Reporter) -> None:
    """The summary: every container, how it is, and where it answers."""
    from dockyard.cli.output import print_table

    reporter.note(f"Up in {format_seconds(seconds)}")
    host = engine.info.address or "127.0.0.1"
    rows = [
        (member.name, member.condition, " ".join(member.urls(host)) or "not published")
        for member in found
    ]
    print_table(["container", "state", "address"], rows)


def _to_json(member: Member, engine: FoundEngine) -> dict[str, Any]:
    return {
        "service": member.service,
        "name": member.name,
        "state": member.state,
        "health": member.health or None,
        "urls": list(member.urls(engine.info.address or "127.0.0.1")),
    }


def _stay(
    compose: Compose,
    opened: Opened,
    built: dict[str, str],
    engine: FoundEngine,
    *,
    watch: bool,
    reporter: Reporter,
) -> int:
    """Show the logs until Ctrl-C or SIGTERM, then stop the stack."""
    from dockyard.cli.watch import watch_services

    try:
        if watch:
            watch_services(compose, opened, built, engine, reporter)
            return 0
        reporter.note("Logs follow; Ctrl-C stops the stack.")
        return compose.show("logs", "--follow", "--tail", "0")
    finally:
        _stop(compose, opened.project, reporter)


def _stop(compose: Compose, project: Project, reporter: Reporter) -> None:
    compose.follow(f"Stopping {project.name}", "stop", reporter=reporter)
    reporter.note("Stopped; `dockyard up` starts it again, `dockyard down` removes it.")
