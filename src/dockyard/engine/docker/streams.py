"""What containers write, as the engine sends it, and talking to a program over one connection.

Rules: without a terminal the engine sends frames, each with its stream's number and its length
(Engine API, attach); with one it sends bare bytes. Nothing is kept: a stream of any length takes
the memory of one piece.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Literal

from dockyard.engine.docker.link import translated
from dockyard.engine.state import LogChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE = 1 << 16  # Bytes.


def pieces(response: Any) -> Iterator[bytes]:
    """The body of a response of requests, as it comes.

    Below urllib3, which needs some 20 µs for each of a log's lines, and fills whole buffers.
    """
    body = response.raw._fp
    while piece := body.read1(_PIECE):
        yield piece


def frames(source: Iterable[bytes]) -> Iterator[LogChunk]:
    """Split the multiplexed stream: a stream number, three zeros, a length."""
    held = bytearray()
    for piece in source:
        held += piece
        start = 0
        while len(held) - start >= 8:
            number, length = struct.unpack_from(">BxxxL", held, start)
            if len(held) - start - 8 < length:
                break
            start += 8
            if length:
                yield LogChunk(_stream_name(number), bytes(held[start : start + length]))
            start += length
        del held[:start]


def bare(source: Iterable[bytes]) -> Iterator[LogChunk]:
    """The output of a terminal, which is one stream."""
    return (LogChunk("stdout", piece) for piece in source)


def demultiplexed(container: str, frames: Iterable[Any]) -> Iterator[LogChunk]:
    """What docker-py has split already."""
    with translated(container):
        for out, err in frames:
            if out:
                yield LogChunk("stdout", out)
            if err:
                yield LogChunk("stderr", err)


class DockerSession:
    """A program talked to over a connection that was upgraded to bare bytes."""

    def __init__(
        self,
        response: Any,
        *,
        where: str,
        terminal: bool,
        wait: Callable[[], int],
        resize: Callable[[int, int], None],
    ) -> None:
        self._response = response
        # The reader may hold bytes that came with the headers, so it is the one to read from.
        self._reader = response.raw._fp.fp
        self._socket: Any = response.raw._connection.sock
        self._where = where
        self._terminal = terminal
        self._wait = wait
        self._resize = resize

    def output(self) -> Iterator[LogChunk]:
        """What it writes, until it ends."""
        with translated(self._where):
            source = iter(lambda: self._reader.read1(_PIECE), b"")
            yield from bare(source) if self._terminal else frames(source)

    def write(self, data: bytes) -> None:
        """Give it input; a program that has ended takes none, which is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def close_input(self) -> None:
        """Say that no more input comes."""
        # An OSError means that it has ended before its input did.
        with contextlib.suppress(OSError):
            if (ssh := getattr(self._socket, "proc", None)) is not None:
                ssh.stdin.close()
            else:
                self._socket.shutdown(socket.SHUT_WR)

    def resize(self, *, columns: int, rows: int) -> None:
        """Say how large its terminal is."""
        self._resize(columns, rows)

    def wait(self) -> int:
        """Its exit code, once its output has ended."""
        return self._wait()

    def close(self) -> None:
        """Let go of it; it isn't stopped."""
        self._response.close()


def _stream_name(number: int) -> Literal["stdout", "stderr"]:
    return "stderr" if number == 2 else "stdout"
