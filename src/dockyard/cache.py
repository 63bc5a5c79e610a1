"""The cache folder: content that can always be made again, kept safe against crashes.

Layout below the root (`$DOCKYARD_CACHE`, else `$XDG_CACHE_HOME/dockyard`, else
`~/.cache/dockyard`):

    blobs/sha256/ab/abcd…     immutable bytes named by their SHA-256 (hexadecimal)
    records/<kind>/<key>.json small results, each with its own checksum
    tmp/                      files being written; swept when their writer is gone
    locks/                    advisory locks (flock)

Rules: a file appears under its final name whole or not at all (written in tmp/, then renamed).
A record that can't be read back exactly is treated as absent. Nothing here is the only copy of
anything.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dockyard.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Iterator


def default_cache_root() -> Path:
    """Return the cache folder that the environment asks for."""
    if named := os.environ.get("DOCKYARD_CACHE"):
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dockyard"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUsage:
    """What one folder of the cache holds; size: bytes."""

    name: str
    size: int
    files: int


class BlobWriter:
    """Bytes on their way into the cache; hashed as they come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append data."""
        self._sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def hexdigest(self) -> str:
        """SHA-256 of what was written so far, hexadecimal."""
        return self._sha256.hexdigest()


class Cache:
    """One cache folder; safe for several processes and threads at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else default_cache_root()
        try:
            for name in ("blobs/sha256", "records", "tmp", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"the cache folder can't be made: {error.strerror}",
                where=str(self.root),
                hint="Name a writable folder in DOCKYARD_CACHE.",
            ) from error

    def blob_path(self, sha256: str) -> Path:
        """Where the blob with this SHA-256 (hexadecimal) is, or would be."""
        return self.root / "blobs" / "sha256" / sha256[:2] / sha256

    def has_blob(self, sha256: str) -> bool:
        """Whether the blob is here."""
        return self.blob_path(sha256).exists()

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield the path of a new file in the cache's file system, removed afterwards if left."""
        try:
            handle, name = tempfile.mkstemp(dir=self.root / "tmp", prefix=f"{os.getpid()}-")
        except OSError as error:
            raise _unwritable(self.root, error) from error
        os.close(handle)
        path = Path(name)
        try:
            yield path
        except OSError as error:
            if error.errno in _FULL:
                raise _unwritable(self.root, error) from error
            raise
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def writing_blob(self, expected: str | None = None) -> Iterator[BlobWriter]:
        """Yield a writer; on leaving without error the blob is in the cache under its SHA-256.

        With `expected` (hexadecimal) other bytes raise CacheError and leave nothing.
        """
        with self.temporary() as path:
            with path.open("wb") as file:
                writer = BlobWriter(file)
                yield writer
            if expected is not None and writer.hexdigest != expected:
                raise CacheError(
                    f"the bytes have SHA-256 {writer.hexdigest}, expected {expected}",
                    where=str(self.blob_path(expected)),
                    hint="Build again; if it happens twice, report it.",
                )
            self.adopt(path, writer.hexdigest)

    def adopt(self, path: Path, sha256: str) -> Path:
        """Move a finished file of this file system, known to have this SHA-256, into the blobs."""
        final = self.blob_path(sha256)
        final.parent.mkdir(exist_ok=True)
        path.chmod(0o644)
        path.replace(final)
        return final

    def read_record(self, kind: str, key: str) -> Any:
        """Return the record's value, or None when it is absent or damaged."""
        try:
            text = self._record_path(kind, key).read_bytes()
        except OSError:
            return None
        checksum, _, body = text.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return None
        return json.loads(body)

    def write_record(self, kind: str, key: str, value: Any) -> None:
        """Keep a JSON value under (kind, key), replacing what was there."""
        body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        final = self._record_path(kind, key)
        with self.temporary() as path:
            path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the named lock; other processes and threads wait. It ends with its holder."""
        safe = hashlib.sha256(name.encode()).hexdigest()[:32]
        with (self.root / "locks" / safe).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sweep(self) -> None:
        """Remove temporary files and folders whose writing process is gone."""
        for path in (self.root / "tmp").iterdir():
            pid = path.name.partition("-")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def usage(self) -> list[PartUsage]:
        """What is in the cache, part by part; the largest first."""
        found = []
        for part in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            sizes = [stat.st_size for _, stat in _files(part)]
            found.append(PartUsage(name=part.name, size=sum(sizes), files=len(sizes)))
        return sorted(found, key=lambda part: (-part.size, part.name))

    def prune(self, *, unused_for: float) -> PartUsage:
        """Remove what wasn't used for so many seconds; return what went.

        A folder of `unpacked` or `provided` goes as a whole. Locks stay, and so does what is being
        written.
        """
        limit = time.time() - unused_for
        size = files = 0
        for part in list(self.root.iterdir()):
            if part.name in ("locks", "tmp"):
                continue
            whole = part.name in ("unpacked", "provided", "listed") and part.is_dir()
            for entry in list(part.iterdir()) if whole else [part]:
                stats = list(_files(entry))
                old = [(path, stat) for path, stat in stats if _used(stat) < limit]
                if whole and len(old) < len(stats):
                    continue
                for path, stat in old:
                    with suppress(OSError):
                        path.unlink()
                        size, files = size + stat.st_size, files + 1
                if whole and entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
        _remove_empty_folders(self.root / "blobs")
        _remove_empty_folders(self.root / "records")
        return PartUsage(name="removed", size=size, files=files)

    def _record_path(self, kind: str, key: str) -> Path:
        return self.root / "records" / kind / f"{key}.json"


def _files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files at or below a path, symbolic links as themselves."""
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            yield from _files(child)
        return
    with suppress(OSError):
        yield path, path.lstat()


def _used(stat: os.stat_result) -> float:
    """When a file was last read or written; Linux notes reads at least once a day (relatime)."""
    return max(stat.st_atime, stat.st_mtime)


def _remove_empty_folders(root: Path) -> None:
    for folder in sorted(root.rglob("*"), reverse=True) if root.is_dir() else ():
        if folder.is_dir() and folder != root / "sha256":
            with suppress(OSError):  # what isn't empty stays
                folder.rmdir()


_FULL = frozenset({28, 122, 30, 13})  # ENOSPC, EDQUOT, EROFS, EACCES


def _unwritable(root: Path, error: OSError) -> CacheError:
    return CacheError(
        f"the cache can't be written: {error.strerror}",
        where=str(root),
        hint="Free some space there, or name another folder in DOCKYARD_CACHE.",
    )
