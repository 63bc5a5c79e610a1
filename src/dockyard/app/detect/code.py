"""What the project's code says: imports, web apps, how they are started, routes, files it uses.

Rules: files are parsed, never run or imported. Facts carry their lines. A file that isn't valid
Python gives no facts but its fault; tests, documentation and set-up scripts aren't read.
"""

from __future__ import annotations

import ast
import posixpath
import sys
import warnings
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from dockyard.app.detect.facts import (
    APPS,
    FACTORIES,
    Code,
    Fact,
    Module,
    ServerCall,
    WebApp,
)
from dockyard.app.detect.resolve import Resolver, dotted, environment_read
from dockyard.app.detect.running import functions_called, idle_functions, is_main, main_guard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.app.detect.facts import Kind, Server
    from dockyard.app.ignore import Project

_SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "docs", "doc", "examples", "notebooks", "migrations"}
)
_SKIPPED_FILES = frozenset({"setup.py", "conftest.py", "noxfile.py", "tasks.py", "fabfile.py"})
_MOST_FILES, _MOST_BYTES, _LARGEST = 3000, 24 << 20, 1 << 20
_READ_ROUTES = frozenset({"route", "get", "api_route", "websocket_route"})
_LOADERS = ("from_pretrained", "load_model", "SentenceTransformer", "snapshot_download")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PREFIXED = frozenset({"APIRouter", "Blueprint", "Router"})


def read_code(project: Project, *, workdir: str, variables: Mapping[str, str]) -> Code:
    """Parse the project's Python files.

    workdir: where they will be in the image; variables: the image's environment.
    """
    files = [file for file in project.files if file.kind == "file" and _is_source(file.path)]
    files.sort(key=lambda file: (file.path.count("/"), file.path))
    sources = frozenset(file.path for file in project.files if file.path.endswith(".py"))
    folders = frozenset(
        parent.as_posix() for path in sources for parent in PurePosixPath(path).parents
    )
    modules: dict[str, Module] = {}
    faults: list[Fact] = []
    budget = _MOST_BYTES
    for file in files[:_MOST_FILES]:
        budget -= file.size
        if file.size > _LARGEST or budget < 0:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(file.absolute.read_bytes())
            image_path = posixpath.join(workdir, file.path)
            resolver = Resolver(tree, image_path, variables)
            modules[file.path] = _Reader(file.path, tree, resolver, sources, folders).read()
        except SyntaxError as error:
            # It may be right for a newer Python than the one that runs Dockyard.
            faults.append(Fact(text=f"{file.path}:{error.lineno or 1}", line=error.lineno or 1))
        except (OSError, ValueError, RecursionError, MemoryError):
            faults.append(Fact(text=file.path, line=1))
    _resolve_factories(modules)
    return Code(modules=modules, faults=tuple(faults))


def _is_source(path: str) -> bool:
    *folders, name = path.split("/")
    if not name.endswith(".py") or name in _SKIPPED_FILES:
        return False
    if name.startswith("test_") or name.endswith("_test.py"):
        return False
    return not _SKIPPED_FOLDERS.intersection(folders)


class _Reader:
    """Reads one file's tree."""

    def __init__(
        self,
        path: str,
        tree: ast.Module,
        resolver: Resolver,
        files: frozenset[str],
        folders: frozenset[str],
    ) -> None:
        self.tree = tree
        self.folders = folders
        self.resolver = resolver
        self.files = files
        self.module = Module(path=path)
        self.prefixes: dict[str, str | None] = {}
        self.mounted: set[str] = set()

    def read(self) -> Module:
        module = self.module
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported(node)
        guarded = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Try)
            for inner in ast.walk(node)
        }
        module.optional = {
            alias.name.split(".")[0]
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import) and id(node) in guarded
            for alias in node.names
        } | {
            (node.module or "").split(".")[0]
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and id(node) in guarded
        }
        for statement in self.tree.body:
            self.statement(statement)
        guard = main_guard(self.tree)
        main = guard.body if guard is not None else None
        module.main_line = guard.lineno if guard is not None else 0
        inside_main = {id(node) for part in (main or []) for node in ast.walk(part)}
        started = functions_called(self.tree, main or [])
        inside_main |= {id(node) for function in started for node in ast.walk(function)}
        idle = {id(node) for function in idle_functions(self.tree) for node in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                self.call(node, main=id(node) in inside_main, runs=id(node) not in idle)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.routes(node)
            elif isinstance(node, ast.Subscript) and dotted(node.value) == "os.environ":
                name = self.resolver.text(node.slice)
                if name and isinstance(node.ctx, ast.Load) and id(node) not in guarded:
                    module.required.append(Fact(text=name, line=node.lineno))
            if isinstance(node, ast.expr):
                self.string(node)
        module.apps = [app for app in module.apps if app.name not in self.mounted]
        if main is not None:
            self.main_block(main, started)
        return module

    # Imports

    def imported(self, node: ast.Import | ast.ImportFrom) -> None:
        module = self.module
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                module.names[alias.asname or top] = alias.name if alias.asname else top
                self.found(alias.name, top, node.lineno)
            return
        source = node.module or ""
        if node.level:
            base = posixpath.dirname(module.path)
            for _ in range(node.level - 1):
                base = posixpath.dirname(base)
            self.add_local(posixpath.join(base, *source.split(".")) if source else base, node)
            for alias in node.names:
                module.names[alias.asname or alias.name] = f".{source}.{alias.name}"
            return
        for alias in node.names:
            module.names[alias.asname or alias.name] = f"{source}.{alias.name}"
        if not self.found(source, source.split(".")[0], node.lineno):
            for path in self.local_paths(source):
                self.add_local(path.removesuffix(".py").removesuffix("/__init__"), node)

    def found(self, name: str, top: str, line: int) -> bool:
        """Note an import; True when it isn't the project's own."""
        local = self.local_paths(name)
        if local or self.local_paths(top):
            self.module.local.update(local)
            self.module.siblings |= self.is_sibling(top)
            return False
        if top not in sys.stdlib_module_names and top:
            self.module.imports.setdefault(top, line)
        return True

    def is_sibling(self, top: str) -> bool:
        """Whether a module is found beside this file only, not from the project's folder."""
        stems = [top, posixpath.join("src", top)]
        return not any(
            stem + ".py" in self.files or stem in self.folders for stem in stems
        ) and bool(posixpath.dirname(self.module.path))

    def local_paths(self, name: str) -> list[str]:
        """The project's files that importing a dotted name runs."""
        here = posixpath.dirname(self.module.path)
        found = []
        for root in dict.fromkeys((here, "", "src")):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                stem = posixpath.join(root, *parts[:length])
                for path in (stem + ".py", stem + "/__init__.py"):
                    if path in self.files and path != self.module.path:
                        found.append(path)
            top = posixpath.join(root, parts[0])
            if not found and top in self.folders:
                # A package without __init__.py.
                found.append(top)
        return found

    def add_local(self, stem: str, node: ast.ImportFrom) -> None:
        candidates = [stem, *(posixpath.join(stem, alias.name) for alias in node.names)]
        for candidate in candidates:
            for path in (candidate + ".py", candidate + "/__init__.py"):
                if path in self.files:
                    self.module.local.add(path)

    def full_name(self, node: ast.expr) -> str:
        """A name with its import undone: `gr.Blocks` -> "gradio.Blocks"."""
        name = dotted(node)
        first, dot, rest = name.partition(".")
        return self.module.names.get(first, first) + dot + rest if name else ""

    # Apps

    def statement(self, node: ast.stmt) -> None:
        """A statement at the top level, or inside `if` and `with` there."""
        module = self.module
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                self.made(name, call)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call):
                self.made(name, call)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(attr="server") as of):
                module.names["=" + dotted(of)] = name
            case ast.With(items=items, body=body):
                for item in items:
                    target = item.optional_vars
                    if isinstance(item.context_expr, ast.Call) and isinstance(target, ast.Name):
                        self.made(target.id, item.context_expr)
                for inner in body:
                    self.statement(inner)
                module.runs = True
            case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
                self.factory(node, name)
            case ast.ClassDef(name=name, body=body) if name.endswith("Predictor"):
                methods = [part for part in body if isinstance(part, _FUNCTIONS)]
                if any(method.name == "predict" for method in methods):
                    module.predictors.append(Fact(text=name, line=node.lineno))
            case ast.If() if not is_main(node.test):
                for inner in node.body:
                    self.statement(inner)
            case ast.Try(body=body):
                for inner in body:
                    self.statement(inner)
            case ast.For() | ast.While():
                module.runs = True
            case ast.Expr(value=ast.Call()):
                module.runs = True

    def made(self, name: str, call: ast.Call) -> None:
        kind = APPS.get(self.full_name(call.func))
        if kind is not None:
            self.module.apps.append(WebApp(kind=kind, name=name, line=call.lineno))
        elif dotted(call.func).split(".")[-1] in FACTORIES:
            # Its kind is known when all files are read.
            self.module.apps.append(WebApp(kind="flask", name=name, line=-call.lineno))
            self.module.names["=" + name] = self.full_name(call.func)
        if isinstance(call.func, ast.Name | ast.Attribute):
            last = dotted(call.func).split(".")[-1]
            if last in _PREFIXED:
                prefix = next(
                    (item for item in call.keywords if item.arg in ("prefix", "url_prefix")), None
                )
                self.prefixes[name] = self.resolver.text(prefix.value) if prefix else ""

    def factory(self, node: ast.stmt, name: str) -> None:
        """A function without required arguments that returns an app which it makes."""
        if not isinstance(node, ast.FunctionDef):
            return
        arguments = node.args
        required = len(arguments.args) + len(arguments.posonlyargs) - len(arguments.defaults)
        if required > 0 or any(default is None for default in arguments.kw_defaults):
            return
        made: dict[str, Kind] = {}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call):
                kind = APPS.get(self.full_name(inner.value.func))
                if kind and isinstance(inner.targets[0], ast.Name):
                    made[inner.targets[0].id] = kind
        for inner in ast.walk(node):
            if not isinstance(inner, ast.Return) or inner.value is None:
                continue
            returned = made.get(dotted(inner.value))
            if isinstance(inner.value, ast.Call):
                returned = APPS.get(self.full_name(inner.value.func))
            if returned:
                app = WebApp(kind=returned, name=name, line=node.lineno, factory=True)
                self.module.apps.append(app)
                return

    # Calls

    def call(self, node: ast.Call, *, main: bool, runs: bool) -> None:
        module = self.module
        full = self.full_name(node.func)
        last = node.func.attr if isinstance(node.func, ast.Attribute) else full.split(".")[-1]
        if full.startswith("streamlit."):
            module.streamlit = module.streamlit or node.lineno
        if last in ("mount", "mount_gradio_app") and len(node.args) > 1:
            self.mounted |= {dotted(argument) for argument in node.args[1:]}
            if last == "mount_gradio_app":
                self.mounted.discard(dotted(node.args[0]))
        read = environment_read(node)
        if read is not None:
            name = self.resolver.text(read[0])
            default = self.resolver.constant(read[1])
            if name:
                text = None if default is None else str(default)
                module.variables.append(Fact(text=name, line=node.lineno, default=text))
        server = self.server(node, full, last)
        if server is not None:
            self.started(node, server, main=main, runs=runs)
            if server == "gradio" and not any(app.kind == "gradio" for app in module.apps):
                # Launched without a name, or inside a function.
                module.apps.append(WebApp(kind="gradio", name="demo", line=node.lineno))
        self.written(node, full, last)
        if last in ("Route", "add_url_rule", "add_api_route", "add_route", "add_get"):
            path = self.resolver.text(node.args[0]) if node.args else None
            if path and _answers_get(node, self.resolver):
                module.routes.append(Fact(text=path, line=node.lineno))

    def server(self, node: ast.Call, full: str, last: str) -> Server | None:
        if full in ("uvicorn.run", "uvicorn.main.run", "uvicorn.Config"):
            return "uvicorn"
        if full in ("waitress.serve", "hypercorn.run"):
            return "waitress" if full.startswith("waitress") else "hypercorn"
        if full == "aiohttp.web.run_app":
            return "aiohttp"
        if full.split(".")[-1] in ("HTTPServer", "ThreadingHTTPServer") and "http" in full:
            return "http"
        if last == "launch" and any(app.kind == "gradio" for app in self.module.apps):
            return "gradio"
        if last == "launch" and "gradio" in self.module.imports:
            return "gradio"
        if last in ("run", "run_server") and isinstance(node.func, ast.Attribute):
            owner = dotted(node.func.value)
            if "flask_socketio" in self.module.imports and node.args:
                return "socketio"
            kinds = {app.name: app.kind for app in self.module.apps}
            kind = kinds.get(owner)
            if kind == "dash":
                return "dash"
            if kind in ("flask", "quart"):
                return "flask"
            if owner == "app" and {"flask", "quart"} & set(self.module.imports):
                return "flask"
        return None

    def started(self, node: ast.Call, server: Server, *, main: bool, runs: bool) -> None:
        keywords = {item.arg: item.value for item in node.keywords if item.arg}
        names = {"gradio": ("server_name", "server_port")}.get(server, ("host", "port"))
        host, port = keywords.get(names[0]), keywords.get(names[1])
        if server == "flask" and node.args:
            host = host or node.args[0]
            port = port or (node.args[1] if len(node.args) > 1 else None)
        if server == "http" and node.args and isinstance(node.args[0], ast.Tuple):
            host, port = (*node.args[0].elts, None, None)[:2]
        target = ""
        if server == "uvicorn" and node.args:
            target = self.resolver.text(node.args[0]) or ""
        self.module.calls.append(
            ServerCall(
                server=server,
                line=node.lineno,
                host=self.resolver.text(host) if host is not None else "",
                port=self.resolver.number(port),
                port_given=port is not None,
                target=target,
                main=main,
                runs=runs,
            )
        )

    def written(self, node: ast.Call, full: str, last: str) -> None:
        """Folders that the code makes or writes files in."""
        argument = node.args[0] if node.args else None
        keywords = {item.arg: item.value for item in node.keywords if item.arg}
        folder: str | None = None
        if full in ("os.makedirs", "os.mkdir"):
            folder = self.resolver.text(argument or keywords.get("name"))
        elif last == "mkdir" and isinstance(node.func, ast.Attribute):
            folder = self.resolver.text(node.func.value)
        elif full == "open" or (last == "open" and isinstance(node.func, ast.Attribute)):
            is_open = full == "open"
            mode_argument = node.args[1] if is_open and len(node.args) > 1 else None
            if not is_open and node.args:
                mode_argument = node.args[0]
            mode = self.resolver.text(mode_argument or keywords.get("mode"))
            if mode and any(letter in mode for letter in "wax+") and len(mode) <= 4:
                target = argument
                if not is_open and isinstance(node.func, ast.Attribute):
                    target = node.func.value
                path = self.resolver.text(target)
                folder = posixpath.dirname(path) or "." if path else None
        elif last.endswith("FileHandler") or full == "logging.basicConfig":
            path = self.resolver.text(
                keywords.get("filename") or (argument if last != "basicConfig" else None)
            )
            folder = posixpath.dirname(path) or "." if path else None
        if folder:
            self.module.writes.append(Fact(text=folder, line=node.lineno))

    def routes(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            if self.full_name(decorator.func) in ("litestar.get", "litestar.handlers.get"):
                # A part of no object; a router may give it a prefix, which isn't looked for.
                path = self.resolver.text(decorator.args[0]) if decorator.args else None
                if path:
                    self.module.routes.append(Fact(text=path, line=decorator.lineno))
                continue
            if not isinstance(decorator.func, ast.Attribute):
                continue
            if decorator.func.attr not in _READ_ROUTES or not decorator.args:
                continue
            path = self.resolver.text(decorator.args[0])
            owner = dotted(decorator.func.value)
            prefix = self.prefixes.get(owner, "")
            if path is None or prefix is None or not _answers_get(decorator, self.resolver):
                continue
            self.module.routes.append(Fact(text=prefix.rstrip("/") + path, line=decorator.lineno))

    def string(self, node: ast.expr) -> None:
        """Paths with a suffix, which may name models; the reader of models sorts them out."""
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call):
            text = self.resolver.text(node)
            loads = isinstance(node, ast.Call) and dotted(node.func).endswith(_LOADERS)
            if isinstance(node, ast.Call) and loads and node.args:
                text = self.resolver.text(node.args[0]) or text
            if (
                text
                and len(text) < 300
                and "\n" not in text
                and (loads or "." in text or "/" in text)
            ):
                self.module.strings.append(Fact(text=text, line=node.lineno))

    # The main block

    def main_block(self, body: list[ast.stmt], started: list[ast.FunctionDef]) -> None:
        """Note the first thing in the main block that isn't about starting the server."""
        lines = {call.line for call in self.module.calls}
        starters = {
            function.name
            for function in started
            if any(function.lineno <= line <= (function.end_lineno or 0) for line in lines)
        }
        statements = list(body)
        for function in started:
            if function.name in starters:
                statements += function.body
        for statement in statements:
            for node in ast.walk(statement):
                if not isinstance(node, ast.Call) or node.lineno in lines:
                    continue
                name = dotted(node.func)
                last = name.split(".")[-1]
                if name in starters or last in _HARMLESS or environment_read(node) is not None:
                    continue
                if isinstance(node.func, ast.Attribute) and last == "":
                    continue
                line = node.lineno
                if self.module.main_extra is None or line < self.module.main_extra.line:
                    self.module.main_extra = Fact(text=f"{name or 'a call'}()", line=line)


_HARMLESS = frozenset(
    {
        *("print", "int", "str", "bool", "float", "basicConfig", "getLogger", "setLevel", "info"),
        *("ArgumentParser", "add_argument", "parse_args", "get", "getenv", "debug", "warning"),
        *("exit", "lower", "format", "cpu_count"),
    }
)


def _answers_get(node: ast.Call, resolver: Resolver) -> bool:
    methods = next((item.value for item in node.keywords if item.arg == "methods"), None)
    if methods is None:
        return True
    if isinstance(methods, ast.List | ast.Tuple | ast.Set):
        return any((resolver.text(item) or "").upper() == "GET" for item in methods.elts)
    return False


def _resolve_factories(modules: Mapping[str, Module]) -> None:
    """Give `app = create_app()` the kind of app that the function makes, wherever it is."""
    for module in modules.values():
        resolved = []
        for app in module.apps:
            if app.line > 0:
                resolved.append(app)
                continue
            wanted = module.names.pop("=" + app.name, "").split(".")[-1]
            sources = [module, *(modules[path] for path in sorted(module.local) if path in modules)]
            kinds = [
                other.kind
                for source in sources
                for other in source.apps
                if other.factory and other.name == wanted
            ]
            if kinds:
                resolved.append(WebApp(kind=kinds[0], name=app.name, line=-app.line))
        module.apps = resolved
