"""`dockyard up --watch`: when a service's code changes, build it and swap its container.

Rules: only what goes into the image counts, and not what the app itself writes, so that a log or a
cache never starts a build. Changes
that come while a build runs are one more build after it. A build that fails leaves the running
container alone and says why.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dockyard.cli.main import show_error
from dockyard.cli.output import format_seconds
from dockyard.errors import DockyardError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dockyard.cli.up import Opened
    from dockyard.engine.connect import FoundEngine
    from dockyard.progress import Reporter
    from dockyard.stack.program import Compose

_PAUSE = 0.15  # Seconds between two looks; one costs a few stat calls for each file.

# What a folder looks like: size and time of change of each file that goes into the image.
Look = dict[str, tuple[int, int]]


def watch_services(
    compose: Compose,
    opened: Opened,
    built: Mapping[str, str],
    engine: FoundEngine,
    reporter: Reporter,
) -> None:
    """Follow the logs, and the folders of the services that Dockyard built, until interrupted."""
    folders = {
        service.name: service.context
        for service in opened.project.services
        if service.name in built and service.context is not None
    }
    if not folders:
        reporter.warn("no service is built by Dockyard, so there is nothing to watch")
    else:
        reporter.note(f"Watching {', '.join(folders)}; Ctrl-C stops the stack.")
    written = {name: written_by_app(folder) for name, folder in folders.items()}
    seen = {name: look_at(folder, written[name]) for name, folder in folders.items()}
    follow = ("logs", "--follow", "--tail", "0")
    logs = compose.started(*follow)
    try:
        while True:
            time.sleep(_PAUSE)
            if logs.poll() is not None:
                # Swapped containers end the stream of Compose's older versions.
                logs = compose.started(*follow)
            for name, folder in folders.items():
                now = look_at(folder, written[name])
                if changed := differences(seen[name], now):
                    seen[name] = now
                    swap(name, changed, compose, opened, engine, reporter)
    finally:
        logs.terminate()
        logs.wait()


def written_by_app(folder: Path) -> tuple[str, ...]:
    """Folders of the project that the app itself writes to, when the project is mounted."""
    from dockyard.app.config import load_config
    from dockyard.app.detect import detect

    config, origin = load_config(folder)
    detected = detect(folder, config, origin)
    root = detected.workdir.value.rstrip("/") + "/"
    paths = [item.value for item in detected.writable]
    return tuple(path.removeprefix(root) + "/" for path in paths if path.startswith(root))


def look_at(folder: Path, written: tuple[str, ...] = ()) -> Look:
    """What goes into the image, with sizes and times; {} while that can't be told.

    written: folders that don't count, because the app writes there.
    """
    from dockyard.app.config import load_config
    from dockyard.app.ignore import walk_project

    try:
        config, _ = load_config(folder)
        project = walk_project(folder, config)
    except DockyardError:
        return {}
    return {
        file.path: (file.size, file.mtime_ns)
        for file in project.files
        if not file.path.startswith(written)
    }


def differences(before: Look, now: Look) -> list[str]:
    """The paths that were changed, made or removed; none while the folder can't be read."""
    if not now:
        return []
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def swap(
    name: str,
    changed: list[str],
    compose: Compose,
    opened: Opened,
    engine: FoundEngine,
    reporter: Reporter,
) -> None:
    """Build a service anew and put its container in the place of the old one."""
    from dockyard.cli.up import build_services

    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    started = time.monotonic()
    try:
        build_services(opened, engine, anew=False, reporter=reporter, only=[name])
        words = ("up", "--detach", "--no-build", "--no-deps", name)
        compose.follow(f"Swapping {name}", *words, reporter=reporter)
    except DockyardError as error:
        show_error(error)
        reporter.note(f"{name} runs on as it was.")
        return
    seconds = format_seconds(time.monotonic() - started)
    reporter.note(f"Swapped {name} in {seconds}: {changed[0]}{more}")
