"""The project's files as Docker's client sees them: sizes, and what the build context holds.

Rules: nothing is followed or opened; what can't be listed is passed over. `.dockerignore` has
Docker's semantics (see `app.dockerignore`); a `Dockerfile.dockerignore` beside a Dockerfile wins
over it. A tree of more than MOST files is read to there, since findings need no more.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.app.dockerignore import PathPatterns, read_dockerignore
from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MOST = 200_000
# Folders in which the project's own sources are not.
FOREIGN = frozenset(
    {
        *(".git", ".hg", ".svn", "node_modules", "__pycache__", ".tox", ".nox", ".mypy_cache"),
        *(".pytest_cache", ".ruff_cache", ".venv", "venv", ".ipynb_checkpoints", "site-packages"),
    }
)


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A regular file or link: its path in the project and its size in bytes."""

    path: str
    size: int

    @property
    def name(self) -> str:
        """The last component."""
        return posixpath.basename(self.path)

    @property
    def top(self) -> str:
        """The first component."""
        return self.path.partition("/")[0]


def list_tree(root: Path) -> tuple[TreeFile, ...]:
    """Every file below a folder, sorted by path."""
    found: list[TreeFile] = []
    waiting = [("", str(root))]
    while waiting and len(found) < MOST:
        prefix, folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError:
            continue
        for entry in listed:
            try:
                status = entry.stat(follow_symlinks=False)
                entry.name.encode()
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append((prefix + entry.name + "/", entry.path))
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found.append(TreeFile(prefix + entry.name, status.st_size))
    return tuple(sorted(found, key=lambda file: file.path))


def own_sources(files: Iterable[TreeFile]) -> Iterator[TreeFile]:
    """Those files that aren't in version control's, a package's or a cache's folders."""
    foreign = {
        posixpath.dirname(file.path)
        for file in files
        if file.name == "pyvenv.cfg" and "/" in file.path
    }
    for file in files:
        if FOREIGN.isdisjoint(file.path.split("/")[:-1]) and not any(
            file.path.startswith(folder + "/") for folder in foreign
        ):
            yield file


@dataclass(frozen=True, slots=True)
class Context:
    """A build context. ignore_file: the .dockerignore's name, "" when there is none."""

    files: tuple[TreeFile, ...]
    ignore_file: str

    def size(self) -> int:
        """Bytes that a build sends."""
        return sum(file.size for file in self.files)

    def chosen(self, source: str) -> tuple[TreeFile, ...]:
        """The files that a COPY source names: a file, a folder, a pattern."""
        cleaned = posixpath.normpath(source.lstrip("/")) if source.strip("/") else "."
        if cleaned == ".":
            return self.files
        if any(character in cleaned for character in "*?["):
            depth = cleaned.count("/") + 1
            return tuple(
                file
                for file in self.files
                if fnmatch.fnmatchcase("/".join(file.path.split("/")[:depth]), cleaned)
            )
        return tuple(
            file
            for file in self.files
            if file.path == cleaned or file.path.startswith(cleaned + "/")
        )


def build_context(root: Path, files: Sequence[TreeFile], dockerfile: str) -> Context:
    """What a build with that Dockerfile sends."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        path = root / name
        if not path.is_file():
            continue
        try:
            patterns = read_dockerignore(
                path.read_text(encoding="utf-8", errors="surrogateescape"), where=name
            )
        except (OSError, ProjectError):
            patterns = PathPatterns([])
        kept = tuple(file for file in files if not patterns.matches(file.path))
        return Context(kept, name)
    return Context(tuple(files), "")
