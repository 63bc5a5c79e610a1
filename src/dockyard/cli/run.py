"""`dockyard run`: start a container from an image or a project folder, and stay with it.

Rules: what the container writes goes to the same streams here, everything else to stderr. The
exit code is the container's. Ctrl-C and SIGTERM are passed on; a second Ctrl-C kills. A container
in the foreground is removed when it ends, one in the background stays.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli import complete
from dockyard.cli.output import format_seconds, with_reporter
from dockyard.cli.run_options import container_options, finish_spec, read_options
from dockyard.errors import DockyardError, UsageError

if TYPE_CHECKING:
    from dockyard.engine.api import Engine, LocalImage, LogChunk
    from dockyard.engine.ready import Readiness, Running
    from dockyard.engine.spec import ContainerSpec, Port
    from dockyard.progress import Reporter

_PATIENCE = 300.0  # Seconds until a container in the background must be ready.
_COMMAND = "dockyard.command"


class _WithCommand(click.Command):
    """A command whose arguments after `--` are the container's, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set what follows the first `--` aside."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], tuple(args[at + 1 :])
        return super().parse_args(ctx, args)


@click.command(
    cls=_WithCommand,
    options_metavar="[OPTIONS]",
    epilog="What follows -- is the command to run instead of the image's own.",
)
@click.argument(
    "target",
    metavar="[IMAGE or FOLDER] [-- COMMAND...]",
    default=".",
    shell_complete=complete.images_and_folders,
)
@click.option("-d", "--detach", is_flag=True, help="Return when it is ready; leave it running.")
@click.option(
    "--rm/--no-rm",
    "remove",
    default=None,
    help="Remove it when it ends. Default: in the foreground.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help=f"Give up when it isn't ready. Default: {_PATIENCE:g} with -d, else never.",
)
@click.option("--json", "as_json", is_flag=True, help="With -d: print one JSON object.")
@container_options
@with_reporter
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    target: str,
    detach: bool,
    timeout: float | None,
    as_json: bool,
    remove: bool | None,
    reporter: Reporter,
    **options: Any,
) -> int:
    """Run an image, or build a project folder (by default this one) and run that.

    Waits until the image's health check passes (without one: until its port is listened on) and
    says where it answers. In the foreground its output is shown until it ends, and Ctrl-C stops
    it.
    """
    from dockyard.engine.connect import find_engine
    from dockyard.engine.spec import ContainerSpec

    if as_json and not detach:
        raise UsageError("--json needs -d", hint="In the foreground stdout is the container's.")
    remove = (not detach) if remove is None else remove
    # Read before building, so that a typing error doesn't cost a build.
    wishes = read_options(remove=remove and detach, command=ctx.meta.get(_COMMAND), **options)
    engine = find_engine()
    if engine.info.kind == "local":
        reporter.note("No Docker or Podman answers: the local engine runs it, without a daemon")
    reference, image = _find_image(target, engine, reporter)
    wishes["name"] = wishes["name"] or _invent_name(reference)
    if not (wishes["ports"] or options["no_publish"] or options["network"] == "host"):
        wishes["ports"] = _default_ports(image, engine, reporter)
    spec = finish_spec(
        ContainerSpec(image=reference, **wishes), image, engine.info, compat=options["compat"]
    )
    if detach:
        return _run_detached(
            engine, spec, _PATIENCE if timeout is None else timeout, as_json, reporter
        )
    return _run_attached(engine, spec, timeout, remove, reporter)


def _find_image(target: str, engine: Engine, reporter: Reporter) -> tuple[str, LocalImage]:
    """The image to run, and the name to run it by; a folder is built first."""
    from dockyard.errors import EngineError

    if Path(target).is_dir():
        from dockyard.cli.build import build_for_run

        reference = build_for_run(Path(target), engine=engine, reporter=reporter)
        image = engine.image(reference)
        if image is None:
            raise EngineError(
                f"the image {reference} was loaded, but the engine doesn't know it",
                where=str(engine.info),
            )
        return reference, image
    image = engine.image(target)
    if image is None:
        if target.startswith((".", "/", "~")):
            raise UsageError(f"there is no folder {target}")
        raise EngineError(
            f"neither an image nor a folder is called {target}",
            where=str(engine.info),
            hint=f"Build a project with `dockyard build FOLDER`, or get the image: "
            f"docker pull {target}",
        )
    return target, image


def _invent_name(reference: str) -> str:
    """A name that says which image it is: torch-digits-3f9a."""
    last = reference.rpartition("/")[2].partition("@")[0].partition(":")[0]
    safe = re.sub(r"[^a-zA-Z0-9_.-]", "-", last).strip("-._") or "container"
    return f"{safe[:40]}-{secrets.token_hex(2)}"


def _default_ports(image: LocalImage, engine: Engine, reporter: Reporter) -> tuple[Port, ...]:
    """The image's TCP ports on 127.0.0.1, under the same numbers where those are free."""
    from dataclasses import replace

    ports = []
    for port in image.exposed_ports:
        if port.protocol != "tcp":
            continue
        host: int | None = port.container
        if engine.info.address == "127.0.0.1" and _is_taken(port.container):
            reporter.note(f"Port {port.container} is taken on this machine; a free one is used.")
            host = None
        ports.append(replace(port, host_ip="127.0.0.1", host=host))
    return tuple(ports)


def _is_taken(port: int) -> bool:
    import errno

    with socket.socket() as probe:
        # As an engine's proxy does: connections of yesterday's server don't hold a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _run_detached(
    engine: Engine, spec: ContainerSpec, timeout: float, as_json: bool, reporter: Reporter
) -> int:
    from dockyard.engine.api import StartError
    from dockyard.engine.ready import prepare, start, wait_ready

    running = prepare(engine, spec, reporter=reporter)
    try:
        start(running, reporter=reporter)
        with reporter.task(f"waiting for {running.name}"):
            ready = wait_ready(running, timeout=timeout)
    except StartError as error:
        if spec.remove:
            engine.remove(running.id, force=True)
        else:
            name = running.name
            kept = f"The container is kept: dockyard logs {name}; dockyard rm -f {name}"
            error.hint = f"{error.hint}\n{kept}" if error.hint else kept
        raise
    except BaseException:
        engine.remove(running.id, force=True)
        raise
    _say_ready(ready, reporter)
    print(json.dumps(_to_json(running, spec, ready)) if as_json else running.name)
    return 0


def _to_json(running: Running, spec: ContainerSpec, ready: Readiness) -> dict[str, Any]:
    state = running.engine.container(running.id)
    ports = state.ports if state is not None else ()
    return {
        "id": running.id,
        "name": running.name,
        "image": spec.image,
        "state": ready.how,
        "seconds": round(ready.seconds, 3),
        "urls": list(ready.urls),
        "ports": [
            {"container": p.container, "protocol": p.protocol, "address": p.host_ip, "host": p.host}
            for p in ports
        ],
    }


def _run_attached(
    engine: Engine,
    spec: ContainerSpec,
    timeout: float | None,
    remove: bool,
    reporter: Reporter,
) -> int:
    from dockyard.engine.ready import prepare, start

    running = prepare(engine, spec, write=_write, reporter=reporter)
    try:
        start(running, reporter=reporter)
        return _stay(running, timeout, reporter)
    except KeyboardInterrupt:
        return _stop_politely(running, "SIGINT", reporter)
    except SystemExit:
        _stop_politely(running, "SIGTERM", reporter)
        raise
    finally:
        if remove:
            engine.remove(running.id, force=True)


def _stay(running: Running, timeout: float | None, reporter: Reporter) -> int:
    """Wait for the container's readiness, then for its end; return its exit code."""
    from dockyard.cli.main import show_error
    from dockyard.engine.api import StartError
    from dockyard.engine.ready import stop, wait_ready

    try:
        _say_ready(wait_ready(running, timeout=timeout), reporter)
    except StartError as error:
        running.output.finish()
        if error.container_exit_code is not None:
            # Its last lines are on the screen already.
            show_error(DockyardError(error.what, hint=error.advice))
            return error.container_exit_code
        if timeout is not None:
            stop(running)
            raise DockyardError(error.what, hint=error.advice) from error
        reporter.warn(f"{error.what}{f' ({error.advice})' if error.advice else ''}")
    running.output.finish(None)
    if running.output.failure is not None:
        stop(running)
        raise running.output.failure
    return running.engine.wait(running.id)


def _stop_politely(running: Running, signal: str, reporter: Reporter) -> int:
    from dockyard.engine.ready import stop

    reporter.note(f"Stopping {running.name}; Ctrl-C again kills it.")
    try:
        code = stop(running, signal)
    except KeyboardInterrupt:
        code = stop(running, "SIGKILL")
    return 137 if code is None else code


def _say_ready(ready: Readiness, reporter: Reporter) -> None:
    if not ready.reached:
        reporter.warn(
            f"it is healthy, but nothing answers at {' '.join(ready.urls)}: it listens inside the "
            "container only (on 127.0.0.1?), and must listen on 0.0.0.0"
        )
        return
    if ready.how in ("healthy", "listening"):
        where = f"{' '.join(ready.urls)} " if ready.urls else ""
        reporter.note(f"Ready: {where}({ready.how} after {format_seconds(ready.seconds)})")


def _write(chunk: LogChunk) -> None:
    stream = sys.stdout if chunk.stream == "stdout" else sys.stderr
    stream.buffer.write(chunk.data)
    stream.flush()
