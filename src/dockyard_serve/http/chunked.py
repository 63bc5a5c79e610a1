"""The chunked transfer coding (RFC 9112 7.1), decoded as pieces arrive, without any I/O.

Rules: chunk extensions and trailers are read and dropped, within limits; a line ends with CRLF and
nothing else.
"""

from __future__ import annotations

import re

from dockyard_serve.errors import BadRequest, PayloadTooLarge

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LONGEST_LINE = 4096
_MOST_TRAILER = 16384


class ChunkedBody:
    """Decodes one body: `feed` what arrives; when `done`, `body` is it and `rest` what follows."""

    __slots__ = ("_buffer", "_limit", "_parts", "_size", "_state", "_trailer", "done")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._size = 0
        self._state = -1  # Bytes left of the chunk and its CRLF; -1: a size line, -2: the trailer.
        self._trailer = 0
        self.done = False

    @property
    def size(self) -> int:
        """Bytes that came so far, decoded or not."""
        return sum(map(len, self._parts)) + len(self._buffer)

    @property
    def body(self) -> bytes:
        """What was decoded."""
        return b"".join(self._parts)

    @property
    def rest(self) -> bytes:
        """What came after the body's end: the next request's first bytes."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what arrived; raises BadRequest or PayloadTooLarge."""
        self._buffer += data
        while not self.done:
            if self._state >= 0:
                if len(self._buffer) < self._state + 2:
                    return  # Whole chunks only: a body is never larger than the limit anyway.
                self._take_chunk()
                continue
            line = self._take_line()
            if line is None:
                return
            if self._state == -1:
                self._start_chunk(line)
            elif line:
                self._trailer += len(line) + 2
                if self._trailer > _MOST_TRAILER:
                    raise BadRequest("the trailer of the chunked body is too large")
            else:
                self.done = True

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0 and len(self._buffer) <= _LONGEST_LINE:
            return None
        if not 0 <= end <= _LONGEST_LINE:
            raise BadRequest("a line of the chunked body is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _start_chunk(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("a chunk doesn't start with its size")
        size = int(match[1], 16)
        self._size += size
        if self._size > self._limit:
            raise PayloadTooLarge(f"the body is larger than {self._limit} bytes")
        self._state = size if size else -2

    def _take_chunk(self) -> None:
        size = self._state
        if self._buffer[size : size + 2] != b"\r\n":
            raise BadRequest("a chunk is longer than its size")
        self._parts.append(bytes(self._buffer[:size]))
        del self._buffer[: size + 2]
        self._state = -1
