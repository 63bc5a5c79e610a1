"""What a container wrote: frames in files that grow, are rotated and can be followed.

A frame is a time (Unix seconds, double), a stream (1 stdout, 2 stderr), a length, and the bytes as
they came. Rules: reading takes constant memory, however much was written; `tail` keeps so many
lines at most. A reader that is ahead of the writer never sees half a frame.
"""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Literal

from dockyard.engine.state import LogChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HEADER = struct.Struct(">dBI")
_STREAMS: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}
_SHORTEST, _LONGEST = 0.01, 0.1  # Seconds between two looks at a file that doesn't grow.


class LogWriter:
    """Appends frames; past `size` bytes (0: never) a new file is begun, and `files` are kept."""

    def __init__(self, path: Path, *, size: int = 0, files: int = 1) -> None:
        self._path = path
        self._size = size
        self._files = files
        self._file = path.open("ab", buffering=0)

    def write(self, stream: int, data: bytes) -> None:
        """Append what was just read from the container."""
        self._file.write(_HEADER.pack(time.time(), stream, len(data)) + data)
        if self._size and self._file.tell() >= self._size:
            self._rotate()

    def close(self) -> None:
        """No more is written."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files - 1, 0, -1):
            older = _numbered(self._path, number - 1)
            if older.exists():
                older.replace(_numbered(self._path, number))
        if self._files == 1:
            self._path.unlink()
        self._file = self._path.open("ab", buffering=0)


class LogReader:
    """Frames from a place in the log on; opened when it is made."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._path = path
        self._files: deque[IO[bytes]] = deque()
        if from_end:
            self._open(path)
            if self._files:
                self._files[0].seek(0, os.SEEK_END)
            return
        number = 0
        while _numbered(path, number + 1).exists():
            number += 1
        for each in range(number, -1, -1):
            self._open(_numbered(path, each))

    def written(self) -> Iterator[tuple[float, LogChunk]]:
        """The frames that are there now, with their times."""
        while self._files:
            yield from _frames(self._files[0])
            if len(self._files) == 1:
                if not self._was_rotated():
                    return
                yield from _frames(self._files[0])  # Written after the last look, before the turn.
                self._open(self._path)
            self._files.popleft().close()

    def follow(self, is_over: Callable[[], bool]) -> Iterator[tuple[float, LogChunk]]:
        """All frames, until there are no more and the container has ended."""
        pause = _SHORTEST
        while True:
            over = is_over()  # Asked first: what was written before the end is read after it.
            quiet = True
            for frame in self.written():
                quiet = False
                yield frame
            if over:
                return
            pause = min(pause * 1.5, _LONGEST) if quiet else _SHORTEST
            time.sleep(pause)

    def _open(self, path: Path) -> None:
        try:
            self._files.append(path.open("rb"))
        except FileNotFoundError:
            return

    def _was_rotated(self) -> bool:
        try:
            now = self._path.stat().st_ino
        except FileNotFoundError:
            return False
        return now != os.fstat(self._files[0].fileno()).st_ino


def last_lines(
    frames: Iterator[tuple[float, LogChunk]], count: int
) -> Iterator[tuple[float, LogChunk]]:
    """The frames' last lines, each a frame of its own."""
    lines: deque[tuple[float, LogChunk]] = deque(maxlen=count)
    for at, chunk in frames:
        for line in chunk.data.splitlines(keepends=True):
            joined = lines and lines[-1][1].stream == chunk.stream
            if joined and not lines[-1][1].data.endswith(b"\n"):
                before = lines.pop()
                lines.append((before[0], LogChunk(chunk.stream, before[1].data + line)))
            else:
                lines.append((at, LogChunk(chunk.stream, line)))
    yield from lines


def _frames(file: IO[bytes]) -> Iterator[tuple[float, LogChunk]]:
    while True:
        start = file.tell()
        header = file.read(_HEADER.size)
        if len(header) == _HEADER.size:
            at, stream, length = _HEADER.unpack(header)
            data = file.read(length)
            if len(data) == length:
                yield at, LogChunk(_STREAMS.get(stream, "stdout"), data)
                continue
        file.seek(start)
        return


def _numbered(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_name(f"{path.name}.{number}")
