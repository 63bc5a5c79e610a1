"""One request and its answer, as the paths of the server see it while it is on its way.

Rules: exactly one of `send` and `stream` answers, once; after the client left both do nothing. What
must be undone when the client leaves is put into `on_gone`.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

from dockyard_serve.errors import ServeError

if TYPE_CHECKING:
    from dockyard_serve.http.connection import Connection
    from dockyard_serve.http.head import Head

JSON = b"application/json"
_LARGE = 65536  # Bytes from which a body is written on its own instead of being copied once more.

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_id_prefix = os.urandom(6).hex()
_ids = itertools.count(1)


def reseed_ids() -> None:
    """Give this process ids of its own; called after a fork."""
    global _id_prefix
    _id_prefix = os.urandom(6).hex()


class _Clock:
    """The Date header's value, made once a second (RFC 9110 6.6.1)."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self._line


_clock = _Clock()


class Exchange:
    """A request with its whole body, and the way back.

    received: `time.perf_counter()` when the request was complete. params: what the route matched.
    answer, media_type: what was sent, where it was sent whole; about: what answered, for whoever
    keeps a record of it.
    """

    __slots__ = (
        *("_id", "about", "answer", "body", "connection", "head", "media_type", "on_gone"),
        *("params", "received", "status"),
    )

    def __init__(
        self, connection: Connection, head: Head, params: Mapping[str, str], body: bytes
    ) -> None:
        self.connection: Connection | None = connection
        self.head = head
        self.params = params
        self.body = body
        self.received = time.perf_counter()
        self.on_gone: Callable[[], object] | None = None
        self.status = 0
        self.answer = b""
        self.media_type = b""
        self.about: object = None
        self._id: str | None = None

    @property
    def id(self) -> str:
        """The client's X-Request-Id if it is a sensible one, or a new one."""
        if self._id is None:
            given = self.head.headers.get("x-request-id", "")
            sensible = 0 < len(given) <= 128 and given.isascii() and given.isprintable()
            self._id = given if sensible else f"{_id_prefix}{next(_ids):x}"
        return self._id

    def send(
        self,
        body: bytes,
        *,
        status: int = 200,
        media_type: bytes = JSON,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Answer, and let the connection go on with its next request."""
        connection = self.connection
        if connection is None:
            return
        self.status = status
        self.answer, self.media_type = body, media_type
        keeps = connection.keeps_alive(self.head)
        pieces = self._head(status, media_type, headers, keeps)
        if status not in (204, 304):
            pieces.append(b"Content-Length: %d\r\n" % len(body))
        pieces.append(b"\r\n")
        if self.head.method == "HEAD" or status in (204, 304):
            connection.write(b"".join(pieces))
        elif len(body) < _LARGE:
            pieces.append(body)
            connection.write(b"".join(pieces))
        else:
            connection.write(b"".join(pieces))
            connection.write(body)
        self.connection = None
        connection.finish(self, keeps)

    def fail(self, error: ServeError) -> None:
        """Answer with an error."""
        self.send(
            orjson.dumps(error.body(), default=str),
            status=error.status,
            headers=error.headers.items(),
        )

    def start_stream(
        self, *, status: int, media_type: bytes, headers: Iterable[tuple[str, str]]
    ) -> Stream | None:
        """Begin an answer in pieces; None if the client has left."""
        connection = self.connection
        if connection is None:
            return None
        self.status = status
        chunked = not self.head.http_1_0
        keeps = connection.keeps_alive(self.head) and chunked
        pieces = self._head(status, media_type, headers, keeps)
        pieces.append(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")
        connection.write(b"".join(pieces))
        return Stream(self, chunked=chunked, keeps=keeps)

    def _head(
        self, status: int, media_type: bytes, headers: Iterable[tuple[str, str]], keeps: bool
    ) -> list[bytes]:
        pieces = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, _clock.line()]
        if media_type:
            pieces += (b"Content-Type: ", media_type, b"\r\n")
        pieces += (b"X-Request-Id: ", self.id.encode("latin-1"), b"\r\n")
        if not keeps:
            pieces.append(b"Connection: close\r\n")
        elif self.head.http_1_0:
            pieces.append(b"Connection: keep-alive\r\n")
        assert self.connection is not None
        for name, value in self.connection.added_headers(self.head):
            pieces.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        for name, value in headers:
            pieces.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        return pieces

    def gone(self) -> None:
        """The client left: nothing is sent any more."""
        self.connection = None
        if self.on_gone is not None:
            undo, self.on_gone = self.on_gone, None
            undo()


class Stream:
    """An answer that is sent in pieces."""

    __slots__ = ("_chunked", "_exchange", "_keeps")

    def __init__(self, exchange: Exchange, *, chunked: bool, keeps: bool) -> None:
        self._exchange = exchange
        self._chunked = chunked
        self._keeps = keeps

    async def write(self, piece: bytes) -> bool:
        """Send a piece, and wait while the client reads slowly; False if it has left."""
        connection = self._exchange.connection
        if connection is None:
            return False
        if piece and self._exchange.head.method != "HEAD":
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
            await connection.drained()
        return self._exchange.connection is not None

    def end(self) -> None:
        """The answer is complete."""
        connection = self._exchange.connection
        if connection is None:
            return
        if self._chunked and self._exchange.head.method != "HEAD":
            connection.write(b"0\r\n\r\n")
        self._exchange.connection = None
        connection.finish(self._exchange, self._keeps)

    def abort(self) -> None:
        """The answer can't be completed: hang up, so that nobody takes it for whole."""
        if self._exchange.connection is not None:
            self._exchange.connection.abort()
