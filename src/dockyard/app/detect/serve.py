"""The production command for a web app, given what the project depends on.

Rules: a server that the project depends on is used; none is added behind its back. A main block
that does more than start the server (loads the model, say) is run as it stands, since importing
the app would skip it. Commands listen on all interfaces, or nothing outside the container could
reach them.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.app.detect.dependencies import DependencySource
    from dockyard.app.detect.facts import Module, ServerCall, WebApp

DEFAULT_PORTS = {
    "uvicorn": 8000,
    "hypercorn": 8000,
    "gunicorn": 8000,
    "waitress": 8080,
    "flask": 5000,
    "quart": 5000,
    "dash": 8050,
    "gradio": 7860,
    "streamlit": 8501,
    "aiohttp": 8080,
    "http": 8000,
    "socketio": 5000,
}
_ASGI = frozenset({"fastapi", "starlette", "litestar", "quart"})
_TITLES = {
    "flask": "Flask",
    "quart": "Quart",
    "dash": "Dash",
    "django": "Django",
    "fastapi": "FastAPI",
    "starlette": "ASGI",
    "litestar": "Litestar",
    "gradio": "Gradio",
}
_OPEN = ("0.0.0.0", "::")  # noqa: S104 - a container's own interfaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How the app starts.

    module: the file that starts, if it is one of the project's; port: what the command itself
    makes it listen on, 0 where it listens on none; env: variables that the command relies on.
    """

    command: tuple[str, ...]
    why: str
    where: str = ""
    entrypoint: tuple[str, ...] = ()
    module: str | None = None
    port: int | None = None
    server: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def title(app: WebApp) -> str:
    """What an app is called in a message."""
    return f"{_TITLES[app.kind]} {'factory' if app.factory else 'app'} `{app.name}`"


def import_place(module: Module, workdir: str) -> tuple[str, dict[str, str]]:
    """The dotted name to import a file by, and the variables that make that possible."""
    folder, _, name = module.path.rpartition("/")
    if module.siblings:
        return name.removesuffix(".py"), {"PYTHONPATH": posixpath.join(workdir, folder)}
    if module.path.startswith("src/"):
        return module.name.removeprefix("src."), {"PYTHONPATH": posixpath.join(workdir, "src")}
    return module.name, {}


def script_command(module: Module, workdir: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command that runs a file as the main program."""
    name, env = import_place(module, workdir)
    if module.path.endswith("__main__.py") and "/" in module.path:
        return ("python", "-m", name.removesuffix(".__main__")), env
    uses_package = any(
        path.split("/")[0] == module.path.removeprefix("src/").split("/")[0]
        or path.startswith(posixpath.dirname(module.path) + "/")
        for path in module.local
    )
    if module.depth and not module.siblings and uses_package:
        # It imports its own package, which running the file by its path wouldn't find.
        return ("python", "-m", name), env
    return ("python", module.path), ({} if not module.path.startswith("src/") else env)


def start_app(
    module: Module,
    app: WebApp,
    source: DependencySource,
    *,
    port: int | None,
    workdir: str,
) -> Start:
    """The command that serves a web app; raises ProjectError when nothing there can serve it."""
    where = f"{module.path}:{app.line}"
    name, env = import_place(module, workdir)
    target = f"{name}:{app.name}"
    call = next((call for call in module.calls if call.server != "http" and call.runs), None)
    has = source.names()
    extra = module.main_extra

    if app.kind == "gradio":
        return _gradio(module, app, call, where, workdir, port=port)
    if call is not None and call.server == "socketio":
        # Its own server speaks WebSocket; another one would need workers made for it.
        return _as_script(module, app, call, workdir)
    if call is not None and call.main and extra is not None:
        return _as_script(module, app, call, workdir, extra_line=extra.line, extra=extra.text)

    if app.kind in _ASGI:
        if "uvicorn" in has or _brings_uvicorn(source):
            number = port or DEFAULT_PORTS["uvicorn"]
            command = ["uvicorn", target, "--host", _OPEN[0], "--port", str(number)]
            command += ["--factory"] if app.factory else []
            return Start(
                command=tuple(command),
                why=f"{title(app)}, and uvicorn is among the dependencies",
                where=where,
                module=module.path,
                port=number,
                server="uvicorn",
                env=env,
            )
        if "hypercorn" in has:
            number = port or DEFAULT_PORTS["hypercorn"]
            target = f"{target}()" if app.factory else target
            return Start(
                command=("hypercorn", target, "--bind", f"{_OPEN[0]}:{number}"),
                why=f"{title(app)}, and hypercorn is among the dependencies",
                where=where,
                module=module.path,
                port=number,
                server="hypercorn",
                env=env,
            )
        if call is not None and call.main:
            return _as_script(module, app, call, workdir)
        raise ProjectError(
            f"{title(app)} needs a server, and the dependencies have none",
            where=where,
            hint="Add uvicorn to the dependencies.",
        )
    return _wsgi(module, app, call, source, port=port, workdir=workdir, where=where)


def _wsgi(
    module: Module,
    app: WebApp,
    call: ServerCall | None,
    source: DependencySource,
    *,
    port: int | None,
    workdir: str,
    where: str,
) -> Start:
    name, env = import_place(module, workdir)
    has = source.names()
    attribute = app.name
    if app.kind == "dash":
        # What WSGI servers want is the Flask app inside, and only by a name.
        attribute = module.names.get(f"={app.name}.server", "")
        has = has if attribute else frozenset()
    target = f"{name}:{attribute}{'()' if app.factory else ''}"
    if "gunicorn" in has:
        number = port or DEFAULT_PORTS["gunicorn"]
        # One process, so that the model is in memory once; threads, since inference leaves the
        # interpreter's lock; its heartbeat file in memory, since the root may be read-only.
        options = ("--bind", f"{_OPEN[0]}:{number}", "--workers", "1", "--threads", "4")
        memory = ("--timeout", "120", "--worker-tmp-dir", "/dev/shm")  # noqa: S108
        return Start(
            command=("gunicorn", target, *options, *memory),
            why=f"{title(app)}, and gunicorn is among the dependencies; one worker, so that the "
            "model is in memory once",
            where=where,
            module=module.path,
            port=number,
            server="gunicorn",
            env=env,
        )
    if "waitress" in has:
        number = port or DEFAULT_PORTS["waitress"]
        listen = ("--host", _OPEN[0], "--port", str(number))
        factory = ("--call",) if app.factory else ()
        return Start(
            command=("waitress-serve", *listen, *factory, target.removesuffix("()")),
            why=f"{title(app)}, and waitress is among the dependencies",
            where=where,
            module=module.path,
            port=number,
            server="waitress",
            env=env,
        )
    if app.kind == "django":
        raise ProjectError(
            f"{title(app)} needs a server, and the dependencies have none",
            where=where,
            hint="Add gunicorn to the dependencies.",
        )
    if call is not None and (call.host in _OPEN or app.kind == "dash"):
        return _as_script(module, app, call, workdir)
    number = port or DEFAULT_PORTS["flask"]
    advice = _development_server()
    if call is not None:
        advice += f" ({module.path}:{call.line} would listen inside the container only)"
    return Start(
        command=(
            *("flask", "--app", target, "run"),
            *("--host", _OPEN[0], "--port", str(number)),
        ),
        why=f"{title(app)}, and no production server is among the dependencies",
        where=where,
        module=module.path,
        port=number,
        server="flask",
        env=env,
        warnings=(advice,),
    )


def _gradio(
    module: Module,
    app: WebApp,
    call: ServerCall | None,
    where: str,
    workdir: str,
    *,
    port: int | None,
) -> Start:
    if call is None:
        raise ProjectError(
            f"{title(app)} is never launched",
            where=where,
            hint=f"Add `{app.name}.launch()` at the end of {module.path}.",
        )
    command, env = script_command(module, workdir)
    port = call.port or port or DEFAULT_PORTS["gradio"]
    env = {**env, "GRADIO_SERVER_NAME": _OPEN[0], "GRADIO_ANALYTICS_ENABLED": "False"}
    if call.port is None:
        env["GRADIO_SERVER_PORT"] = str(port)
    return Start(
        command=command,
        why=f"{title(app)}, which {module.path} launches",
        where=where,
        module=module.path,
        port=port,
        server="gradio",
        env=env,
        warnings=_local_only(module, call) if call.host else (),
    )


def _as_script(
    module: Module,
    app: WebApp,
    call: ServerCall,
    workdir: str,
    *,
    extra_line: int = 0,
    extra: str = "",
) -> Start:
    """Run the file, whose main block starts the server."""
    command, env = script_command(module, workdir)
    why = f"{title(app)}, which {module.path} starts itself (line {call.line})"
    if extra:
        why += f" after more than that (line {extra_line}: {extra}), which a server would skip"
    warnings = _local_only(module, call)
    if call.server in ("flask", "dash"):
        warnings = (*warnings, _development_server())
    return Start(
        command=command,
        why=why,
        where=f"{module.path}:{call.line}",
        module=module.path,
        port=call.port or (DEFAULT_PORTS[call.server] if not call.port_given else None),
        server=call.server,
        env=env,
        warnings=warnings,
    )


def _development_server() -> str:
    return "Flask's development server answers; add gunicorn to the dependencies for production"


def _local_only(module: Module, call: ServerCall) -> tuple[str, ...]:
    """A warning when a server listens where nothing outside the container reaches it."""
    if call.host is None or call.host in _OPEN:
        return ()
    if not call.host and call.server in ("aiohttp", "waitress"):
        # Their default is all interfaces.
        return ()
    host = call.host or "127.0.0.1, the default,"
    return (
        f"{module.path}:{call.line} listens on {host} only, which nothing outside the container "
        f'can reach: pass host="{_OPEN[0]}"',
    )


def script_warnings(module: Module) -> tuple[str, ...]:
    """What to say of a script that starts a server itself."""
    calls = [call for call in module.calls if call.server != "gradio"]
    return tuple(warning for call in calls for warning in _local_only(module, call))


def _brings_uvicorn(source: DependencySource) -> bool:
    extras = {extra for item in source.named if item.name == "fastapi" for extra in item.extras}
    return bool({"standard", "all", "standard-no-fastapi-cloud-cli"} & extras)
