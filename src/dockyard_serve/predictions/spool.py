"""Records on disk until the database has them: append-only files, one folder for each process.

Rules: a record is in the spool before anything is sent. A folder belongs to the process that holds
the lock on it; one that nobody holds was left behind by a process that died, and whoever finds it
brings its records home. Files are cut at a size, and deleted when every record in them has arrived.
The last line of a file may be torn by a crash, and is then not counted as accepted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dockyard_serve.predictions.record import is_whole, sequence_of

_SEGMENT = 8 << 20  # Bytes at which a new file is begun.
_SUFFIX = ".copy"
_LOCK = "lock"


class SpoolFull(Exception):
    """There is no room: the limit is reached, or the disk is full."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of one file, in order: first and last are their sequences."""

    data: bytes
    first: int
    last: int


class Spool:
    """The spool of one writer. `append` is one thread's, `read` and `forget` another's."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self.folder = folder
        self.writer = folder.name
        self.limit = limit
        self._lock_file = _lock(folder / _LOCK)
        self._guard = threading.Lock()
        self._file: int | None = None
        self._size = 0
        self._sizes = _repaired(folder)
        self.last = _last_sequence(folder, self._sizes)

    @classmethod
    def new(cls, root: Path, *, limit: int) -> Spool:
        """A new writer's spool below the root."""
        while True:
            folder = root / str(uuid.uuid4())
            folder.mkdir(parents=True)
            try:
                made = cls(folder, limit=limit)
            except (BlockingIOError, FileNotFoundError):
                # Someone who looks for what was left behind was quicker; it is theirs now.
                continue
            if folder.exists():
                return made

    @property
    def size(self) -> int:
        """Bytes on disk."""
        with self._guard:
            return sum(self._sizes.values())

    def append(self, lines: bytes, first: int) -> None:
        """Write whole lines whose first sequence is `first`; SpoolFull if there is no room.

        All of them or none: a write that ran out of disk is taken back.
        """
        if self.size + len(lines) > self.limit:
            raise SpoolFull
        if self._file is None or self._size >= _SEGMENT:
            self._begin(first)
        assert self._file is not None
        try:
            done = 0
            while done < len(lines):
                done += os.write(self._file, lines[done:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SpoolFull from error
            raise
        self._size += len(lines)
        with self._guard:
            self._sizes[self._first] = self._size
            self.last = first + lines.count(b"\n") - 1

    def sync(self) -> None:
        """Wait until the disk has what was appended."""
        if self._file is not None:
            os.fdatasync(self._file)

    def _begin(self, first: int) -> None:
        if self._file is not None:
            os.fdatasync(self._file)
            os.close(self._file)
            self._file = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self._file = os.open(self._path(first), flags, 0o600)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SpoolFull from error
            raise
        self._first, self._size = first, 0
        with self._guard:
            self._sizes[first] = 0

    def _path(self, first: int) -> Path:
        return self.folder / f"{first:020d}{_SUFFIX}"

    def read(self, after: int, *, most: int) -> Block | None:
        """The lines that follow the sequence `after`, at most about `most` bytes; None if none."""
        with self._guard:
            sizes = dict(self._sizes)
        firsts = sorted(first for first, size in sizes.items() if size)
        for position, first in enumerate(firsts):
            following = firsts[position + 1] if position + 1 < len(firsts) else None
            if following is not None and following <= after + 1:
                continue
            block = self._read_file(first, sizes[first], after, most)
            if block is not None:
                return block
        return None

    def _read_file(self, first: int, size: int, after: int, most: int) -> Block | None:
        start, number = self._place(first, size, after)
        if start >= size:
            return None
        with self._path(first).open("rb") as file:
            file.seek(start)
            data = file.read(min(most, size - start))
            if not data.endswith(b"\n"):
                # One line may be longer than a block.
                data = data[: data.rfind(b"\n") + 1] or data + file.readline()
        self._seen = (first, start + len(data), number + data.count(b"\n"))
        return Block(data=data, first=number, last=number + data.count(b"\n") - 1)

    _seen: tuple[int, int, int] = (0, 0, 0)

    def _place(self, first: int, size: int, after: int) -> tuple[int, int]:
        """Offset and sequence of the line that follows `after` in a file."""
        if after < first:
            return 0, first
        seen_first, offset, number = self._seen
        if seen_first == first and number == after + 1:
            return offset, number
        offset, number = 0, first
        with self._path(first).open("rb") as file:
            for line in file:
                if number > after or offset >= size:
                    break
                offset += len(line)
                number += 1
        return offset, number

    def forget(self, until: int) -> None:
        """Delete the files whose records have all arrived; the one being written stays."""
        with self._guard:
            firsts = sorted(self._sizes)
            ends = [*[first - 1 for first in firsts[1:]], self.last]
            own = self._first if self._file is not None else None
            gone = [
                first
                for first, end in zip(firsts, ends, strict=True)
                if end <= until and first != own
            ]
            for first in gone:
                del self._sizes[first]
        for first in gone:
            self._path(first).unlink(missing_ok=True)

    _first = 0

    def close(self, *, arrived: int) -> None:
        """Let go of the folder; it is removed if everything has arrived."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if arrived >= self.last:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock_file)


def left_behind(root: Path, *, limit: int) -> Iterator[Spool]:
    """Spools of processes that died, oldest first; each is locked while it is dealt with."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir() and _is_writer(path.name)]
    except FileNotFoundError:
        return
    for folder in sorted(folders, key=_age):
        try:
            yield Spool(folder, limit=limit)
        except (BlockingIOError, FileNotFoundError):
            continue


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_writer(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _lock(path: Path) -> int:
    """Hold a file's lock until the process ends; BlockingIOError if another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _repaired(folder: Path) -> dict[int, int]:
    """Size by first sequence of each file, after what a crash tore off is cut off."""
    sizes = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        data = path.read_bytes()
        whole = 0
        for line in data.splitlines(keepends=True):
            if not is_whole(line):
                break
            whole += len(line)
        if whole < len(data):
            os.truncate(path, whole)
        sizes[int(path.stem)] = whole
    return sizes


def _last_sequence(folder: Path, sizes: dict[int, int]) -> int:
    """The last sequence in a spool; 0 in a new one."""
    for first in sorted(sizes, reverse=True):
        if sizes[first]:
            with (folder / f"{first:020d}{_SUFFIX}").open("rb") as file:
                *_, last = file
            return sequence_of(last)
    return max(0, max(sizes, default=1) - 1)
