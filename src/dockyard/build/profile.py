"""Which modules start-up imports: found by following imports in the sources; nothing is run.

Rules:
- Following begins at the app's entry modules and at what the start command names, and goes through
  the app, the installed packages and the standard library, as they lie in the image.
- In the app all imports count, those inside functions too: the first request needs them. In a
  package only those that importing it runs count: module level, every branch of `if` and `try`,
  but not what only type checkers see. A name that a package gives on first use is looked up
  there, though, since that is where such packages say what they give.
- What no source says (a server's choice of protocol at run time) is in `LATE`.
- The result depends on the files alone, never on the host or on what a package does when it runs.
  Against the modules that a real start loads it covers 95 to 99.7 % of their bytes; 85 % for a
  transformers pipeline, which makes module names up as it runs. See bench/start.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shlex
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock, local
from typing import TYPE_CHECKING, Any

from dockyard.build.bytecode import CompileUnit
from dockyard.build.worker import Worker, framed, program_text
from dockyard.errors import BuildError
from dockyard.files import SliceSource
from dockyard.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dockyard.build.bytecode import BasePython
    from dockyard.cache import Cache
    from dockyard.files import FileEntry, Source

PROGRAM = "_imports.py"

Said = dict[str, Any]  # what _imports.py answers

# What servers import only once they serve, by the package whose presence means it.
LATE: dict[str, tuple[str, ...]] = {
    "anyio": ("anyio._backends._asyncio",),
    "flask": ("werkzeug.serving", "flask.cli"),
    "gradio": ("uvicorn", "gradio.routes", "gradio.http_server"),
    "gunicorn": (
        "gunicorn.app.wsgiapp",
        "gunicorn.arbiter",
        "gunicorn.glogging",
        "gunicorn.http.wsgi",
        "gunicorn.workers.gthread",
        "gunicorn.workers.sync",
    ),
    "hypercorn": ("hypercorn.asyncio.run",),
    "streamlit": (
        "streamlit.web.bootstrap",
        "streamlit.web.server",
        "streamlit.runtime.scriptrunner",
    ),
    "uvicorn": (
        "uvicorn.server",
        "uvicorn.logging",
        "uvicorn.lifespan.on",
        "uvicorn.loops.auto",
        "uvicorn.loops.asyncio",
        "uvicorn.loops.uvloop",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.http.h11_impl",
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.protocols.websockets.auto",
        "uvicorn.middleware.proxy_headers",
    ),
    "waitress": ("waitress.server", "waitress.runner"),
}

_SERVER = "/site-packages/dockyard_serve/"

# What an interpreter imports before and besides any program.
_ALWAYS = ("encodings.utf_8", "encodings.idna", "encodings.latin_1", "encodings.ascii", "site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The modules that start-up imports, as sorted paths in the image without a leading slash.

    modules: of the standard library and the installed packages; app: of the app itself;"""

    modules: tuple[str, ...]
    app: tuple[str, ...]


def find_startup_modules(
    base: BasePython,
    files: Iterable[FileEntry],
    *,
    command: Sequence[str],
    cache: Cache,
    workdir: str = "app",
    site: str | None = None,
    workers: int | None = None,
    also: Sequence[str] = (),
) -> Profile:
    """Follow the imports of the app that `command` starts, and of the modules `also`.

    files: the installed packages' and the app's entries (others do no harm); the standard
    library is read from `base`. workdir: the app's folder in the image; site: the installed
    packages' folder, by default opt/venv/lib/pythonX.Y/site-packages. What each source says is
    kept in `cache`. Raises BuildError when the base's Python can't be started.
    """
    site = site or f"opt/venv/lib/python{base.python}/site-packages"
    workdir = workdir.strip("/")
    sources: dict[str, Source] = {unit.path: unit.source for unit in standard_library(base)}
    scripts: dict[str, str] = {}
    program = posixpath.basename(command[0]) if command else ""
    for entry in files:
        if entry.source is None:
            continue
        if entry.path.endswith(".py"):
            sources[entry.path] = entry.source
        elif entry.path.endswith(".dist-info/entry_points.txt"):
            scripts.update(_scripts(entry.source))
    words = _words(command)
    tree = _Tree(sources, [workdir, f"{workdir}/src", base.standard_library, site])
    with _Reader(base, cache, sources, workers or os.cpu_count() or 1) as reader:
        search = _Search(tree, workdir, reader)
        for module in (*_ALWAYS, *also, *([scripts[program]] if program in scripts else ())):
            search.want(module)
        for path in _entry_files(words, tree, workdir):
            search.want_script(path)
        for module in _entry_modules(words):
            search.want(module)
        search.run()
    found = sorted(path for path in search.found if not path.startswith(f"{workdir}/"))
    app = sorted(path for path in search.found if path.startswith(f"{workdir}/"))
    return Profile(modules=tuple(found), app=tuple(app))


def standard_library(base: BasePython) -> list[CompileUnit]:
    """Return the standard library's modules, without its tests, sorted by path."""
    folder = base.root / base.standard_library
    units = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if not {"test", "tests", "site-packages", "dist-packages"}.intersection(name.parts):
            source = SliceSource(path, path.stat().st_size)
            units.append(
                CompileUnit(path=f"{base.standard_library}/{name.as_posix()}", source=source)
            )
    return units


def _scripts(source: Source) -> Iterator[tuple[str, str]]:
    """Yield console scripts and the modules that they import."""
    text = b"".join(source.chunks()).decode("utf-8", "replace")
    group = ""
    for line in text.splitlines():
        name, equals, target = line.partition("=")
        if line.startswith("["):
            group = line.strip()
        elif equals and group == "[console_scripts]":
            yield name.strip(), target.partition(":")[0].partition("[")[0].strip()


def _words(command: Sequence[str]) -> list[str]:
    """Return the command's words, those of a line given to a shell too."""
    words: list[str] = []
    for word in command:
        if " " in word:
            try:
                words += shlex.split(word)
            except ValueError:
                continue
        else:
            words.append(word)
    return words


def _entry_files(words: Sequence[str], tree: _Tree, workdir: str) -> list[str]:
    """Return the scripts that the words name; when nothing is named, all of the app's own."""
    paths = (posixpath.normpath(posixpath.join("/", workdir, word)).lstrip("/") for word in words)
    named = [path for path in paths if path.endswith(".py") and path in tree.paths]
    if named or any(tree.in_app(module, workdir) for module in _entry_modules(words)):
        return named
    return sorted(path for path in tree.paths if posixpath.dirname(path) == workdir)


def _entry_modules(words: Sequence[str]) -> list[str]:
    """Return what may be modules: after -m, and the left of "module:object"."""
    found = []
    for before, word in zip(["", *words], words, strict=False):
        name = word.partition(":")[0]
        if before == "-m":
            found += [word, f"{word}.__main__"]
        elif name.replace(".", "_").isidentifier():
            found.append(name)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    path: str
    package: str


class _Tree:
    """Modules by name; the first folder that has a name wins, as in sys.path."""

    def __init__(self, paths: Iterable[str], folders: Sequence[str]) -> None:
        self.paths = frozenset(paths)
        self._folders = folders

    def module(self, name: str) -> _Module | None:
        """Return the module of this name, None if no source has it."""
        below = name.replace(".", "/")
        for folder in self._folders:
            if (path := f"{folder}/{below}/__init__.py") in self.paths:
                return _Module(path=path, package=name)
            if (path := f"{folder}/{below}.py") in self.paths:
                return _Module(path=path, package=name.rpartition(".")[0])
        return None

    def find(self, name: str) -> str | None:
        """Return the path of the module's source."""
        module = self.module(name)
        return None if module is None else module.path

    def in_app(self, name: str, workdir: str) -> bool:
        """Whether the module is one of the app's own."""
        path = self.find(name)
        return path is not None and path.startswith(f"{workdir}/")


class _Search:
    """Modules wanted, found, and still to be read."""

    def __init__(self, tree: _Tree, workdir: str, reader: _Reader) -> None:
        self.found: set[str] = set()
        self._tree = tree
        self._app = f"{workdir}/"
        self._reader = reader
        self._seen: set[str] = set()
        self._looked_up: set[tuple[str, str]] = set()
        self._todo: list[_Module] = []
        self._names: list[tuple[str, str]] = []

    def want(self, module: str, name: str | None = None) -> None:
        """Follow `import module`, or `from module import name`."""
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            self._want_module(".".join(parts[:end]))
        if name is None or name == "*":
            return
        if self._tree.find(f"{module}.{name}") is not None:
            self._want_module(f"{module}.{name}")
        elif (module, name) not in self._looked_up:
            self._looked_up.add((module, name))
            self._names.append((module, name))

    def want_script(self, path: str) -> None:
        """Follow a file that is started by its path."""
        self.found.add(path)
        self._todo.append(_Module(path=path, package=""))

    def _want_module(self, name: str) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        module = self._tree.module(name)
        if module is not None and module.path not in self.found:
            self.found.add(module.path)
            self._todo.append(module)

    def run(self) -> None:
        """Read until nothing new is wanted."""
        reading: dict[Future[Said], _Module] = {}
        while self._todo or self._names or reading:
            for module in self._todo:
                reading[self._ask(module)] = module
            self._todo = []
            if self._names:
                names, self._names = self._names, []
                for name, item in names:
                    self._look_up(name, item)
                continue
            for future in wait(reading, return_when=FIRST_COMPLETED).done:
                package = reading.pop(future).package
                for level, name, item in future.result()["imports"]:
                    if absolute := _absolute(level, name, package):
                        self.want(absolute, item)
            for name in LATE.keys() & self._seen:
                for late in LATE[name]:
                    self.want(late)

    def _ask(self, module: _Module) -> Future[Said]:
        # Dockyard's server imports each part when it is needed, which is at its start.
        whole = module.path.startswith(self._app) or _SERVER in module.path
        return self._reader.read(module.path, functions=whole)

    def _look_up(self, name: str, item: str, depth: int = 0) -> bool:
        """Follow a name that a package gives on first use; say whether the module has it."""
        module = self._tree.module(name)
        if module is None or depth > 2:
            return False
        said = self._ask(module).result()
        if item in said["names"]:
            return True
        stars = []
        for level, target, lazy, bound in said["lazy"]:
            absolute = _absolute(level, target, module.package)
            if absolute and bound == item:
                self.want(absolute, lazy)
                return True
            if absolute and lazy == "*":
                stars.append(absolute)
        for star in stars:
            if self._look_up(star, item, depth + 1):
                self.want(star, item)
                return True
        return False


def _absolute(level: int, module: str, package: str) -> str:
    """Return the absolute name, or "" when it lies above the top package."""
    if not level:
        return module
    parents = package.split(".") if package else []
    if level - 1 >= len(parents):
        return module if not parents and level == 1 else ""
    parents = parents[: len(parents) - level + 1]
    return ".".join([*parents, module] if module else parents)


class _Reader:
    """What sources say they import: from the cache, or from programs of the base's Python."""

    def __init__(
        self, base: BasePython, cache: Cache, sources: Mapping[str, Source], workers: int
    ) -> None:
        self._base = base
        self._pieces = Pieces(cache.root / "pieces" / "imports.sqlite")
        self._fresh: dict[str, bytes] = {}
        self._sources = sources
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="imports")
        self._local = local()
        self._workers: list[Worker] = []
        self._lock = Lock()
        self._asked: dict[tuple[str, bool], Future[Said]] = {}
        self._seed = hashlib.sha256(f"{base.identity()}\n{program_text(PROGRAM)}".encode()).digest()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()
        with self._pieces:
            self._pieces.put(self._fresh)

    def read(self, path: str, *, functions: bool) -> Future[Said]:
        """Begin to read the source at `path`; `functions`: whether to look into these too."""
        key = (path, functions)
        if key not in self._asked:
            self._asked[key] = self._pool.submit(self._read, path, functions)
        return self._asked[key]

    def _read(self, path: str, functions: bool) -> Said:
        source = b"".join(self._sources[path].chunks())
        key = hashlib.sha256(self._seed + bytes([functions]) + source).hexdigest()
        text = self._pieces.get(key)
        if text is not None:
            known: Said = json.loads(text)
            return known
        said = self._ask(source, functions)
        with self._lock:
            self._fresh[key] = json.dumps(said, separators=(",", ":")).encode()
        return said

    def _ask(self, source: bytes, functions: bool) -> Said:
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is None:
            worker = self._local.worker = Worker(self._base, PROGRAM)
            with self._lock:
                self._workers.append(worker)
        try:
            worker.send(bytes([functions]), *framed(source))
            answer = worker.receive(int.from_bytes(worker.receive(4), "big"))
        except BuildError:
            self._local.worker = None
            if worker.answered == 0:
                raise
            # A source that overflows the parser's stack: it can't be imported either.
            return {"imports": [], "lazy": [], "names": []}
        said: Said = json.loads(answer)
        return said
