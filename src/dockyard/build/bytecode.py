"""Bytecode: the pycs of an image, made by the image's own interpreter, the same on every host.

Rules:
- The base's Python runs straight from the unpacked base: its own dynamic loader is told where
  the base's libraries are (`ld.so --library-path`), PYTHONHOME where its standard library is. No
  namespaces and no root; only Linux and the base's processor architecture.
- Files are unchecked-hash pycs (PEP 552), so no source's time or size is ever compared.
- A pyc's bytes depend on the interpreter, the path in the image and the source, on nothing else:
  `_compile.py` says how. So it is also the key under which the cache keeps them.
- A source that isn't valid for this Python (templates, Python 2) is left out, as compileall does.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.build.host import ALIASES, MACHINES, why_not_runnable
from dockyard.build.worker import Worker, framed, program_text
from dockyard.errors import BuildError
from dockyard.files import FileEntry, SliceSource
from dockyard.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dockyard.cache import BlobWriter, Cache
    from dockyard.files import Source

PROGRAM = "_compile.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePython:
    """The Python of an unpacked base; `find_base_python` makes it.

    command: the start of a command line that runs it; home: the value of PYTHONHOME.
    """

    root: Path
    python: str
    command: tuple[str, ...]
    home: Path

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the whole environment to run it in: nothing of the host's comes through."""
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "PYTHONHOME": str(self.home),
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Whether the base ships pycs of its standard library must make no difference.
            "PYTHONPYCACHEPREFIX": "/nonexistent",
            "TZ": "UTC",
            **(extra or {}),
        }

    @property
    def tag(self) -> str:
        """The tag in a pyc's name: "cpython-311"."""
        return "cpython-" + self.python.replace(".", "")

    @property
    def standard_library(self) -> str:
        """The standard library's folder in the image: "usr/lib/python3.11"."""
        return (self.home / "lib" / f"python{self.python}").relative_to(self.root).as_posix()

    def identity(self) -> str:
        """SHA-256 (hexadecimal) over what decides the bytecode that this interpreter makes."""
        digest = hashlib.sha256()
        found = [Path(self.command[-1]), *sorted((self.home / "lib").glob("libpython*.so*"))]
        triplets = [machine[1] for machine in MACHINES.values()]
        for triplet in triplets:
            found += sorted((self.home / "lib" / triplet).glob("libpython*.so*"))
        for path in found:
            if path.is_file() and not path.is_symlink():
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def find_base_python(root: Path, *, python: str, architecture: str) -> BasePython:
    """Find Python `python` ("3.11") in the base unpacked at `root`, and how to run it.

    Raises BuildError when the host can't run it, or the base has no such Python, or no loader.
    """
    root = root.absolute()
    if reason := why_not_runnable(architecture):
        raise BuildError(reason, hint='Set bytecode = "none", or build on such a host.')
    if ":" in str(root) or ";" in str(root):
        raise BuildError(
            "the base is unpacked in a folder whose name holds a colon", where=str(root)
        )
    _, triplet, loaders = MACHINES[ALIASES.get(architecture, architecture)]
    homes = ("usr/local", "usr", "opt/python")
    program = home = None
    for name in homes:
        program = _resolve(root, f"{name}/bin/python{python}")
        if program is not None and (root / name / "lib" / f"python{python}" / "os.py").exists():
            home = root / name
            break
    folders = _library_folders(root, triplet)
    places = ["lib64", "usr/lib64", "lib", "usr/lib", f"lib/{triplet}", f"usr/lib/{triplet}"]
    found = (_resolve(root, f"{place}/{name}") for name in loaders for place in places)
    loader = next((path for path in found if path is not None), None)
    if program is None or home is None or loader is None:
        what = "dynamic loader" if home is not None else f"Python {python}"
        raise BuildError(
            f"the base has no {what}",
            where=str(root),
            hint=f"Use a base with Python {python}, or set python to the one that it has.",
        )
    command = (str(loader), "--library-path", ":".join(map(str, folders)), str(program))
    return BasePython(root=root, python=python, command=command, home=home)


def _library_folders(root: Path, triplet: str) -> list[Path]:
    names = ["usr/local/lib", f"usr/local/lib/{triplet}", f"lib/{triplet}", f"usr/lib/{triplet}"]
    names += ["lib64", "usr/lib64", "lib", "usr/lib"]
    found: dict[Path, None] = {}
    for name in names:
        path = _resolve(root, name)
        if path is not None and path.is_dir():
            found[path] = None
    return list(found)


def _resolve(root: Path, name: str) -> Path | None:
    """Follow symbolic links as they would be inside the image; None if nothing is there."""
    done: list[str] = []
    todo = name.split("/")[::-1]
    for _ in range(1000):
        if not todo:
            return root.joinpath(*done)
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        path = root.joinpath(*done, part)
        if path.is_symlink():
            target = str(path.readlink())
            if target.startswith("/"):
                done = []
            todo += target.split("/")[::-1]
        elif path.exists():
            done.append(part)
        else:
            return None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileUnit:
    """A module's source: `path` in the image without a leading slash, and its bytes."""

    path: str
    source: Source


def pyc_path(path: str, base: BasePython) -> str:
    """Return where the bytecode of the module at `path` is looked for (PEP 3147)."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, "__pycache__", f"{name.removesuffix('.py')}.{base.tag}.pyc")


def compile_modules(
    base: BasePython,
    units: Sequence[CompileUnit],
    *,
    cache: Cache,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda modules: None,
) -> list[FileEntry]:
    """Compile each module; return the pycs' entries, sorted by path.

    The bytes are kept in `cache`, where the entries read them from. `workers`: processes at work,
    by default as many as there are cores. `advance` hears of every module done, from any thread.
    Raises BuildError when the base's interpreter can't be started or dies.
    """
    count = min(workers or os.cpu_count() or 1, len(units))
    with Pieces(cache.root / "pieces" / "bytecode.sqlite") as pieces:
        run = _Run(base, units, cache, pieces, advance)
        with cache.writing_blob() as fresh:
            run.fresh = fresh
            threads = [
                threading.Thread(target=run.work, name=f"compile-{number}")
                for number in range(count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if run.error is not None:
                raise run.error
        return run.finish(fresh.hexdigest)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a pyc's bytes are: a blob of many ("" for the one being written), and a part of it."""

    blob: str
    offset: int
    size: int

    @classmethod
    def parse(cls, value: bytes) -> _Place:
        blob, offset, size = value.decode().split()
        return cls(blob if blob != "-" else "", int(offset), int(size))

    def to_bytes(self) -> bytes:
        return f"{self.blob or '-'} {self.offset} {self.size}".encode()


class _Run:
    """The units of one call, shared by its threads."""

    fresh: BlobWriter

    def __init__(
        self,
        base: BasePython,
        units: Sequence[CompileUnit],
        cache: Cache,
        pieces: Pieces,
        advance: Callable[[int], None],
    ) -> None:
        self.base = base
        self.cache = cache
        self.advance = advance
        self.error: BaseException | None = None
        self._pieces = pieces
        self._places: list[tuple[CompileUnit, str, _Place]] = []
        self._lock = threading.Lock()
        self._units = iter(units)
        self._seed = hashlib.sha256(f"{base.identity()}\n{program_text(PROGRAM)}".encode()).digest()

    def work(self) -> None:
        """Compile until no unit is left; what one thread meets stops all."""
        worker: Worker | None = None
        try:
            for unit, key, source in self._todo():
                if worker is None:
                    worker = _started(self.base)
                try:
                    pyc = _compile(worker, unit.path, source)
                except BuildError:
                    # A source that overflows the compiler's stack: it can't be imported either.
                    worker.close()
                    worker, pyc = None, b""
                with self._lock:
                    place = _Place("", self.fresh.size, len(pyc))
                    self.fresh.write(pyc)
                    self._places.append((unit, key, place))
                self.advance(1)
        except BaseException as error:
            self.error = error
        finally:
            if worker is not None:
                worker.close()

    def finish(self, blob: str) -> list[FileEntry]:
        """Remember what is new, now that it is in `blob`; return all entries, sorted by path."""
        placed = [
            (unit, key, replace(place, blob=place.blob or blob), not place.blob)
            for unit, key, place in self._places
        ]
        self._pieces.put({key: place.to_bytes() for _, key, place, new in placed if new})
        entries = [
            FileEntry(
                path=pyc_path(unit.path, self.base),
                source=SliceSource(self.cache.blob_path(place.blob), place.size, place.offset),
            )
            for unit, _, place, _ in placed
            if place.size
        ]
        return sorted(entries, key=lambda entry: entry.path)

    def _todo(self) -> Iterator[tuple[CompileUnit, str, bytes]]:
        """Yield the units that the cache has no bytecode for, with their key and source."""
        while self.error is None:
            with self._lock:
                unit = next(self._units, None)
            if unit is None:
                return
            source = b"".join(unit.source.chunks())
            digest = hashlib.sha256(self._seed)
            digest.update(f"{len(unit.path.encode())}\n{unit.path}".encode())
            digest.update(source)
            key = digest.hexdigest()
            known = self._pieces.get(key)
            place = None if known is None else _Place.parse(known)
            if place is None or not self.cache.has_blob(place.blob):
                yield unit, key, source
                continue
            with self._lock:
                self._places.append((unit, key, place))
            self.advance(1)


def _started(base: BasePython) -> Worker:
    """A worker that has shown that it works; raises BuildError when it doesn't."""
    worker = Worker(base, PROGRAM)
    try:
        _compile(worker, "empty.py", b"")
    except BaseException:
        worker.close()
        raise
    return worker


def _compile(worker: Worker, path: str, source: bytes) -> bytes:
    """Return the pyc, or b"" when the source can't be compiled."""
    worker.send(*framed(f"/{path}".encode()), *framed(source))
    if worker.receive(1) != b"\0":
        return b""
    return worker.receive(int.from_bytes(worker.receive(4), "big"))
