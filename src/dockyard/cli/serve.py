"""`dockyard serve`: a model, a class or a project on this machine, started anew on every change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockyard.cli.output import with_reporter

if TYPE_CHECKING:
    from dockyard.progress import Reporter


@click.command(epilog="What follows -- goes to the server as it is: dockyard serve . -- --help")
@click.argument("target", metavar="[MODEL or MODULE:CLASS or FOLDER]", default=".")
@click.argument("more", nargs=-1, metavar="[-- OPTIONS...]", type=click.UNPROCESSED)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "-p", "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port."
)
@click.option("--name", help="The model's name in URLs.")
@click.option("--trust", is_flag=True, help="Load formats that run code, such as pickles.")
@click.option("--reload/--no-reload", default=True, help="Start anew when a file changes.")
@click.option("--offline", is_flag=True, help="Use only what the cache holds.")
@with_reporter
def serve(
    *,
    target: str,
    more: tuple[str, ...],
    host: str,
    port: int,
    name: str | None,
    trust: bool,
    reload: bool,
    offline: bool,
    reporter: Reporter,
) -> int:
    """Serve a model file, a Python class or a project on this machine, for development.

    It runs in an environment of yours that has what is needed, else in one that is made in the
    cache. /docs is a page to try the model by hand.
    """
    import dockyard_serve
    from dockyard.build.server import extra_requirements
    from dockyard.cache import Cache
    from dockyard.develop.environment import find_python, make_python
    from dockyard.develop.target import read_target
    from dockyard.develop.watch import Child, keep_running, look_at

    found = read_target(target)
    python = find_python(found)
    if python is None:
        needed = extra_requirements("serve", *(["predictor"] if ":" in found.target else []))
        python = make_python(found, needed, cache=Cache(), reporter=reporter, offline=offline)
    assert dockyard_serve.__file__ is not None
    source = Path(dockyard_serve.__file__).parent
    options = [*found.options, "--host", host, "--port", str(port), "--log-level", "warning"]
    options += ["--name", name] if name else []
    options += ["--trust"] if trust else []
    run = (
        f"import sys; sys.path.insert(1, {str(source.parent)!r}); import dockyard_serve as d; "
        "sys.path.pop(1); import runpy; sys.argv[0] = 'dockyard serve'; "
        "runpy.run_module('dockyard_serve', run_name='__main__')"
    )
    child = Child(
        command=[str(python), "-c", run, found.target, *options, *more],
        folder=found.folder,
        environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        host=host,
        port=port,
    )
    models = [Path(found.target)] if ":" not in found.target else []

    def ready() -> None:
        reporter.note(f"Serving {target} at http://{host}:{port} - try it: /docs")

    status = keep_running(
        child,
        (lambda: look_at(found.folder, models)) if reload else None,
        on_ready=ready,
        on_change=lambda path: reporter.note(f"{_shown(path)} changed: starting again"),
        on_end=lambda status: reporter.warn(
            f"the server ended with {status}; it is started again when a file changes"
        ),
    )
    return max(0, status)


def _shown(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
