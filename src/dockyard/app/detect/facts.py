"""The facts that reading the project's code gives: plain data, with lines as evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["flask", "quart", "dash", "django", "fastapi", "starlette", "litestar", "gradio"]
Server = Literal[
    "flask", "uvicorn", "hypercorn", "waitress", "gradio", "dash", "aiohttp", "http", "socketio"
]

APPS: Mapping[str, Kind] = {
    "flask.Flask": "flask",
    "quart.Quart": "quart",
    "dash.Dash": "dash",
    "fastapi.FastAPI": "fastapi",
    "fastapi.applications.FastAPI": "fastapi",
    "starlette.applications.Starlette": "starlette",
    "litestar.Litestar": "litestar",
    "gradio.Interface": "gradio",
    "gradio.Blocks": "gradio",
    "gradio.ChatInterface": "gradio",
    "gradio.TabbedInterface": "gradio",
    "gradio.mount_gradio_app": "fastapi",
    "django.core.wsgi.get_wsgi_application": "django",
    "django.core.asgi.get_asgi_application": "starlette",
}
FACTORIES = ("create_app", "make_app", "build_app", "get_app", "create_application", "application")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebApp:
    """A web application object, or a function that makes one."""

    kind: Kind
    name: str
    line: int
    factory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCall:
    """A call that starts a server. host and port are None where they can't be told.

    main: it is in the main block or what that calls; runs: running the file comes to it.
    """

    server: Server
    line: int
    host: str | None = None
    port: int | None = None
    port_given: bool = False
    target: str = ""
    main: bool = False
    runs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A string and the line it was found in."""

    text: str
    line: int
    default: str | None = None


@dataclass(slots=True, kw_only=True)
class Module:
    """The facts of one file. path is relative to the project.

    imports: third-party modules and lines; optional: those in a `try`; local: the project's files
    that it imports; names: what imported names stand for; required: variables without a default;
    main_extra: what the main block does besides starting a server; predictors: classes named
    …Predictor that have a method `predict`; siblings: it imports files of
    its folder as if that were the root.
    """

    path: str
    imports: dict[str, int] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    local: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    apps: list[WebApp] = field(default_factory=list)
    calls: list[ServerCall] = field(default_factory=list)
    routes: list[Fact] = field(default_factory=list)
    variables: list[Fact] = field(default_factory=list)
    required: list[Fact] = field(default_factory=list)
    writes: list[Fact] = field(default_factory=list)
    strings: list[Fact] = field(default_factory=list)
    main_line: int = 0
    main_extra: Fact | None = None
    predictors: list[Fact] = field(default_factory=list)
    streamlit: int = 0
    runs: bool = False
    siblings: bool = False

    @property
    def name(self) -> str:
        """The dotted name from the project's folder: "pkg.app"."""
        stem = self.path.removesuffix(".py").removesuffix("/__init__")
        return stem.replace("/", ".")

    @property
    def depth(self) -> int:
        """How many folders it is in, `src` not counted."""
        return self.path.removeprefix("src/").count("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The facts of all files, those nearest to the root first."""

    modules: Mapping[str, Module]
    faults: tuple[Fact, ...] = ()

    def reachable(self, path: str) -> list[Module]:
        """The modules that starting `path` imports, itself first."""
        found: dict[str, Module] = {}
        waiting = [path]
        while waiting:
            current = waiting.pop(0)
            module = self.modules.get(current)
            if module is None or current in found:
                continue
            found[current] = module
            waiting += sorted(module.local)
        return list(found.values())

    def imports(
        self, modules: Sequence[Module] | None = None, *, optional: bool = True
    ) -> dict[str, str]:
        """Top-level imports that are neither the project's nor Python's, and where they are.

        optional: whether those inside a `try` count.
        """
        found: dict[str, str] = {}
        for module in self.modules.values() if modules is None else modules:
            for name, line in module.imports.items():
                if not optional and name in module.optional:
                    continue
                found.setdefault(name, f"{module.path}:{line}")
        return found
