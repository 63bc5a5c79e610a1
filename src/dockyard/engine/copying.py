"""Copy files into and out of a container, as `docker cp` and `cp -a` do.

Rules: a target that is a folder gets the source in it, any other target is the copy's new name; a
source that ends in "/." means what is in the folder. Everything goes as a tar, streamed through a
temporary file only where its size must be known. What comes out of a container is unpacked with
tarfile's "data" filter: nothing is written outside the target, no device, no foreign owner.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from dockyard.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.api import Engine, PathInfo

_PIECE = 1 << 20


def copy_in(engine: Engine, container: str, path: str, target: str) -> None:
    """Copy a file or folder of this machine to a path in the container."""
    content_only, source = path == "." or path.endswith("/."), Path(path)
    if not source.exists() and not source.is_symlink():
        raise UsageError(f"there is no {source}")
    target = _absolute(target)
    target, found = _follow(engine, container, target)
    folder, name = target, source.resolve().name if content_only else source.name
    if found is None or found.kind != "folder":
        if target.endswith("/"):
            raise EngineError(f"there is no folder {target} in the container", where=container)
        if found is not None and source.is_dir():
            raise EngineError(f"{target} is a file, {source} a folder", where=container)
        folder, name = posixpath.split(target)
        content_only = False
        if _follow(engine, container, folder)[1] is None:
            raise EngineError(
                f"there is no folder {folder} in the container",
                where=container,
                hint=f"Make it first: dockyard exec {container} mkdir -p {folder}",
            )
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(source, arcname="." if content_only else name, filter=_anonymous)
        file.seek(0)
        engine.copy_in(container, folder, iter(lambda: file.read(_PIECE), b""))


def copy_out(engine: Engine, container: str, source: str, target: Path) -> None:
    """Copy a file or folder of the container to a path on this machine."""
    content_only = source.endswith("/.")
    source = _absolute(source.removesuffix("."))
    named = posixpath.basename(source.rstrip("/"))
    source, info = _follow(engine, container, source)
    if info is None:
        raise EngineError(f"there is no {source} in the container", where=container)
    if target.is_dir() and not content_only:
        folder, name = target, named
    elif target.exists() and not target.is_dir() and info.kind == "folder":
        raise UsageError(f"{target} is a file, {source} a folder")
    else:
        folder, name = target.parent, target.name
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
    try:
        _unpack(engine.copy_out(container, source.rstrip("/") or "/"), folder, name)
    except OSError as error:
        raise UsageError(
            f"can't write {error.filename or target}: {error.strerror}", where=str(target)
        ) from error


def write_tar(engine: Engine, container: str, source: str, out: IO[bytes]) -> None:
    """Write a file or folder of the container as a tar."""
    for chunk in engine.copy_out(container, _absolute(source)):
        out.write(chunk)


def read_tar(engine: Engine, container: str, data: IO[bytes], target: str) -> None:
    """Unpack a tar in a folder of the container."""
    engine.copy_in(container, _absolute(target), iter(lambda: data.read(_PIECE), b""))


def _unpack(chunks: Iterator[bytes], folder: Path, name: str) -> None:
    """Unpack with another name for the topmost entry."""
    with tarfile.open(fileobj=cast("IO[bytes]", _Chunks(chunks)), mode="r|") as archive:
        top = ""
        for member in archive:
            clean = posixpath.normpath(member.name.lstrip("/"))
            top = top or clean.partition("/")[0]
            inner = clean[len(top) :].lstrip("/") if clean.partition("/")[0] == top else clean
            member.name = posixpath.join(name, inner) if inner else name
            if member.islnk():
                linked = posixpath.normpath(member.linkname.lstrip("/"))
                member.linkname = posixpath.join(name, linked[len(top) :].lstrip("/"))
            try:
                archive.extract(member, folder, filter="data")
            except tarfile.FilterError as error:
                raise EngineError(f"{clean} isn't copied: {error}", where=str(folder)) from error


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's files: a user of this machine means nothing in a container, nor its root."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    # Its own user must be able to read them.
    member.mode |= 0o444 | (0o111 if member.isdir() or member.mode & 0o100 else 0)
    return member


def _follow(engine: Engine, container: str, path: str) -> tuple[str, PathInfo | None]:
    """The path with a symbolic link at its end followed, and what is there."""
    for _ in range(10):
        info = engine.path(container, path.rstrip("/") or "/")
        if info is None or info.kind != "link":
            return path, info
        path = posixpath.join(posixpath.dirname(path.rstrip("/")), info.link)
    raise EngineError(f"{path} is a circle of symbolic links", where=container)


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


class _Chunks(io.RawIOBase):
    """Chunks as a file to read, for tarfile's stream mode."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)
