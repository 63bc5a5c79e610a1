"""The bytecode layer: which modules, and their pycs.

Rules:
- With "profile" the modules are those that start-up imports, found by following imports in the
  files (see `profile`); with "all" every module of the packages and the standard library.
- The layer depends on the base, the packages, the start command and the app's import statements,
  so a change of code that changes no import keeps it.
"""

from __future__ import annotations

import ast
import hashlib
import json
from typing import TYPE_CHECKING

from dockyard.build.worker import program_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.files import FileEntry
    from dockyard.progress import Reporter

_VERSION = 1


def bytecode_version() -> str:
    """What decides the layer besides its inputs: the programs that find and compile modules."""
    programs = [program_text(name) for name in ("_compile.py", "_imports.py")]
    return hashlib.sha256(json.dumps([_VERSION, *programs]).encode()).hexdigest()[:16]


def import_facts(entries: Iterable[FileEntry]) -> str:
    """A hash of what the app's modules are called and import; unreadable ones count whole."""
    facts: list[list[str]] = []
    for entry in entries:
        if entry.source is None or not entry.path.endswith(".py"):
            continue
        source = b"".join(entry.source.chunks())
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            facts.append([entry.path, hashlib.sha256(source).hexdigest()])
            continue
        found = {
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            # What else `_imports.py` follows: package.part, and import_module("name").
            or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
            or (isinstance(node, ast.Call) and "import" in ast.unparse(node.func))
        }
        facts.append([entry.path, *sorted(found)])
    return hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest()


def bytecode_entries(
    *,
    root: Path,
    installed: Sequence[FileEntry],
    app: Sequence[FileEntry],
    command: Sequence[str],
    workdir: str,
    mode: str,
    python: str,
    architecture: str,
    cache: Cache,
    reporter: Reporter,
    also: Sequence[str] = (),
) -> list[FileEntry]:
    """Find the modules and compile them with the Python of the base unpacked at `root`.

    also: modules that start-up imports by names which no source says.
    """
    from dockyard.build.bytecode import CompileUnit, compile_modules, find_base_python
    from dockyard.build.profile import find_startup_modules, standard_library

    base = find_base_python(root, python=python, architecture=architecture)
    library = standard_library(base)
    sources = {unit.path: unit for unit in library}
    for entry in installed:
        if entry.source is not None and entry.path.endswith(".py"):
            sources[entry.path] = CompileUnit(path=entry.path, source=entry.source)
    if mode == "all":
        chosen = sorted(sources)
    else:
        with reporter.task("Following the app's imports"):
            profile = find_startup_modules(
                base, [*installed, *app], command=command, cache=cache, workdir=workdir, also=also
            )
        chosen = [path for path in profile.modules if path in sources]
    units = [sources[path] for path in chosen]
    with reporter.task(f"Compiling {len(units)} modules"):
        return compile_modules(base, units, cache=cache)
