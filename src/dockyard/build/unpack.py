"""File entries written to a folder of the host, so that a base's Python can run there.

Rules: paths are checked and nothing is written through a symbolic link, so nothing lands outside
the folder; links keep their targets as they are in the image. An unpacked base is kept in the
cache under its key (layout: `unpacked/<key>`) and appears there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import BuildError
from dockyard.files import check_path, with_parents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockyard.cache import Cache
    from dockyard.files import FileEntry


def unpack_entries(entries: Iterable[FileEntry], root: Path) -> None:
    """Write the entries below `root`, a folder that is empty or isn't there yet.

    Raises FileTreeError for unsafe or clashing paths, BuildError when writing fails.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        links = []
        safe = [entry for entry in entries if check_path(entry.path, where="the base")]
        for entry in with_parents(safe):
            path = root / entry.path
            if entry.kind == "directory":
                path.mkdir()
            elif entry.kind == "symlink":
                links.append((path, entry.target))
            else:
                _write(entry, path)
        # Last, so that no file is ever written through one.
        for path, target in links:
            path.symlink_to(target)
    except OSError as error:
        raise _unwritable(error, root) from error


def _unwritable(error: OSError, root: Path) -> BuildError:
    return BuildError(
        f"a base can't be unpacked: {error.strerror}",
        where=str(error.filename or root),
        hint="Free some space there, or name another folder in DOCKYARD_CACHE.",
    )


def _write(entry: FileEntry, path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777)
    try:
        if entry.source is not None:
            for chunk in entry.source.chunks():
                view = memoryview(chunk)
                while view:
                    view = view[os.write(handle, view) :]
        os.fchmod(handle, entry.mode | 0o200)
    finally:
        os.close(handle)


def unpacked(key: str, entries: Callable[[], Iterable[FileEntry]], *, cache: Cache) -> Path:
    """Return the folder in `cache` that holds the entries, unpacked now if it isn't there yet.

    key: what the entries depend on, such as the digests of a base's packages; `entries` is called
    only when they are needed.
    """
    return unpacked_by(key, lambda root: unpack_entries(entries(), root), cache=cache)


def unpacked_by(key: str, write: Callable[[Path], None], *, cache: Cache) -> Path:
    """Return the folder in `cache` that `write` fills, called now if there is none for this key.

    Raises BuildError when writing fails.
    """
    name = hashlib.sha256(key.encode()).hexdigest()
    final = cache.root / "unpacked" / name
    if final.is_dir():
        return final
    with cache.lock(f"unpacked {name}"):
        if final.is_dir():
            return final
        final.parent.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=final.parent, prefix=".new-"))
        try:
            write(folder)
            folder.chmod(0o755)
            folder.replace(final)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _unwritable(error, folder) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return final
