"""Files that are being downloaded, kept so that an interrupted download goes on.

Rules: bytes lie in partial/KEY below the cache root, what the server said of them (ETag,
Last-Modified) in partial/KEY.json; only the holder of the download's lock touches them.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from dockyard.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.progress import Task


class Partial:
    """One file on its way; `size` bytes of it are here."""

    def __init__(self, cache: Cache, path: Path, file: IO[bytes]) -> None:
        self._cache = cache
        self._path = path
        self._file = file
        self._shown = 0
        self._digest = hashlib.sha256()
        self.size = 0
        self.validators: dict[str, str] = {}
        while chunk := file.read(1 << 20):
            self._digest.update(chunk)
            self.size += len(chunk)
        with suppress(OSError, ValueError):
            self.validators = json.loads(self._notes.read_text())

    @classmethod
    def open(cls, cache: Cache, key: str) -> Partial:
        """Continue the partial file of `key`, or begin one."""
        path = cache.root / "partial" / key
        try:
            path.parent.mkdir(exist_ok=True)
            return cls(cache, path, path.open("a+b" if not path.exists() else "r+b", buffering=0))
        except OSError as error:
            raise _unwritable(cache, error) from error

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()
        if not self.size:
            self._path.unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)

    @property
    def _notes(self) -> Path:
        return self._path.with_name(self._path.name + ".json")

    @property
    def hexdigest(self) -> str:
        """SHA-256 of the bytes so far, hexadecimal."""
        return self._digest.hexdigest()

    def restart(self, validators: dict[str, str]) -> None:
        """Forget the bytes; those that follow have these validators."""
        try:
            self._file.seek(0)
            self._file.truncate()
            self._notes.write_text(json.dumps(validators))
        except OSError as error:
            raise _unwritable(self._cache, error) from error
        self._digest = hashlib.sha256()
        self.size = 0
        self.validators = validators

    def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        try:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _unwritable(self._cache, error) from error
        self._digest.update(chunk)
        self.size += len(chunk)

    def report(self, progress: Task) -> None:
        """Advance the progress to the present size."""
        # After a restart the bar waits until the download is where it was.
        if self.size > self._shown:
            progress.advance(self.size - self._shown)
            self._shown = self.size

    def finish(self, sha256: str) -> Path:
        """Move the file, known to have this SHA-256, into the blobs."""
        self._file.close()
        self._notes.unlink(missing_ok=True)
        return self._cache.adopt(self._path, sha256)


def _unwritable(cache: Cache, error: OSError) -> CacheError:
    return CacheError(
        f"the download can't be written: {error.strerror}",
        where=str(cache.root),
        hint="Free some space there, or name another folder in DOCKYARD_CACHE.",
    )
