"""One client's connection: finds the requests in what arrives, and writes the answers in order.

Rules: one request at a time is on its way; what a client sends ahead waits in a small buffer, and
past that in its own socket. Nothing here waits: a sweep in `http.server` ends what is too slow. A
client that hangs up while its request is on its way has left, as for nginx and Go.

The same bytes mean the same head: what was parsed and routed is kept by its bytes, since clients
that keep connections send the same heads over and over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from dockyard_serve.errors import (
    BadRequest,
    HeadTooLarge,
    PayloadTooLarge,
    RequestTimeout,
    ServeError,
)
from dockyard_serve.http.chunked import ChunkedBody
from dockyard_serve.http.exchange import Exchange
from dockyard_serve.http.head import Head, parse_head

_MOST_AHEAD = 65536  # Bytes read while a request is on its way.
_MOST_PLANS = 512
_LONGEST_PLANNED = 2048
_LINGER = 5.0  # Seconds in which a refused client may take its answer.
_SLOWEST = 1024  # Bytes a second that a body must come with, once `body_timeout` is over.


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may do: sizes in bytes, times in seconds."""

    head: int = 16 * 1024
    body: int = 64 * 1024 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 20.0
    idle_timeout: float = 75.0
    write_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a head is answered: by `answer`, or at once, before the body, by `refusal`."""

    answer: Callable[[Exchange], None]
    params: Mapping[str, str]
    refusal: ServeError | None = None


class Server(Protocol):
    """What a connection asks of the server."""

    limits: Limits
    draining: bool

    def plan(self, head: Head) -> Plan: ...
    def added_headers(self, head: Head) -> Iterable[tuple[str, str]]: ...
    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def answered(self, exchange: Exchange) -> None: ...
    def crashed(self, exchange: Exchange, error: Exception) -> None: ...


Plans = dict[bytes, tuple[Head, Plan]]


def _answer_refusal(error: ServeError) -> Plan:
    return Plan(lambda exchange: exchange.fail(error), {}, error)


class Connection(asyncio.Protocol):
    """The protocol of one connection; `plans` is shared by all of a server's."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunked",
        "_closing",
        "_current",
        "_drain",
        "_exchange",
        "_lingers",
        "_missing",
        "_plans",
        "_reading_paused",
        "_server",
        "_since",
        "_transport",
        "_writing_since",
    )

    def __init__(self, server: Server, plans: Plans) -> None:
        self._server = server
        self._plans = plans
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._body: list[bytes] = []
        self._missing = 0
        self._chunked: ChunkedBody | None = None
        self._current: tuple[Head, Plan] | None = None
        self._exchange: Exchange | None = None
        self._closing = False
        self._lingers = False
        self._reading_paused = False
        self._since = time.monotonic()
        self._writing_since: float | None = None
        self._drain: asyncio.Event | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no such base.
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return  # Lingering: the client is let finish, or it may never see the answer.
        if self._exchange is not None or self._writing_since is not None:
            self._buffer += data
            if len(self._buffer) > _MOST_AHEAD and not self._reading_paused:
                assert self._transport is not None
                self._reading_paused = True
                self._transport.pause_reading()
            return
        self._advance(data)

    def eof_received(self) -> bool:
        return False  # Close: half-closed clients can't be told from those that left.

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._transport = None
        self._buffer = b""
        self._body = []
        self._chunked = None
        if self._drain is not None:
            self._drain.set()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.status = exchange.status or 499  # nginx's word for a client that left
            self._server.answered(exchange)
            exchange.gone()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._writing_since = time.monotonic()
        self._drain = asyncio.Event()

    def resume_writing(self) -> None:
        self._writing_since = None
        if self._drain is not None:
            self._drain.set()
            self._drain = None
        if self._exchange is None and not self._closing:
            self._advance(b"")

    # What exchanges call.

    def keeps_alive(self, head: Head) -> bool:
        """Whether another request may follow."""
        return head.keep_alive and not self._server.draining and not self._closing

    def added_headers(self, head: Head) -> Iterable[tuple[str, str]]:
        """Headers that the server adds to every answer."""
        return self._server.added_headers(head)

    def write(self, data: bytes) -> None:
        """Send bytes, at once or when the client reads."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait while the client reads too slowly."""
        if self._drain is not None:
            await self._drain.wait()

    def finish(self, exchange: Exchange, keeps: bool) -> None:
        """The answer is written: go on with the next request, or close."""
        self._exchange = None
        self._server.answered(exchange)
        self._since = time.monotonic()
        if self._lingers:
            self._linger()
        elif not keeps:
            self.close()
        elif self._buffer and self._writing_since is None:
            # Not from here: the caller may be the parser of this very connection.
            asyncio.get_running_loop().call_soon(self._go_on)

    def close(self) -> None:
        """Close when everything is written; an idle connection at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # What the server's sweep calls.

    @property
    def busy(self) -> bool:
        """Whether a request has begun, or its answer isn't sent."""
        return (
            self._exchange is not None
            or self._current is not None
            or bool(self._buffer)
            or self._writing_since is not None
        )

    @property
    def idle_since(self) -> float:
        """The `time.monotonic()` of the last change of what it does."""
        return self._since

    def sweep(self, now: float) -> None:
        """End what takes longer than the limits allow."""
        limits = self._server.limits
        waited = now - self._since
        if self._writing_since is not None:
            if now - self._writing_since > limits.write_timeout:
                self.abort()
        elif self._exchange is not None:
            return  # The model's queue has deadlines of its own.
        elif self._closing:
            if waited > _LINGER:
                self.abort()
        elif self._current is not None:
            received = sum(map(len, self._body)) if self._chunked is None else self._chunked.size
            if waited > limits.body_timeout + received / _SLOWEST:
                self._refuse(RequestTimeout("the body of the request comes too slowly"))
        elif self._buffer:
            if waited > limits.head_timeout:
                self._refuse(RequestTimeout("the head of the request comes too slowly"))
        elif waited > limits.idle_timeout:
            self.close()

    # Reading.

    def _go_on(self) -> None:
        if self._exchange is None and not self._closing and self._writing_since is None:
            self._advance(b"")

    def _advance(self, data: bytes) -> None:
        """Answer what is complete in what arrived and what waited."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        try:
            while data and not self._closing:
                if self._exchange is not None or self._writing_since is not None:
                    self._buffer = data
                    return
                if self._current is None:
                    data = self._read_head(data)
                elif self._chunked is not None:
                    data = self._read_chunks(data)
                else:
                    data = self._read_body(data)
        except ServeError as error:
            self._refuse(error)

    def _read_head(self, data: bytes) -> bytes:
        """Take a head, and a body that came whole with it; gives what follows."""
        end = data.find(b"\r\n\r\n") + 4
        if end == 3 or end > self._server.limits.head:
            if len(data) > self._server.limits.head:
                raise HeadTooLarge(f"the head is larger than {self._server.limits.head} bytes")
            if data.startswith(b"\r\n"):  # RFC 9112 2.2: ignore an empty line before it
                return data[2:]
            if len(data) > 8 and b" " not in data[:32]:
                raise BadRequest("this isn't HTTP")
            self._buffer = data
            return b""
        block = data[:end]
        current = self._plans.get(block)
        if current is None:
            current = self._plan(block.lstrip(b"\r\n"))
        head, plan = current
        if head.length == 0:
            self._start(head, plan, b"")
            return data[end:]
        if head.length is not None and len(data) - end >= head.length <= self._server.limits.body:
            self._start(head, plan, data[end : end + head.length])
            return data[end + head.length :]
        self._current = current
        self._since = time.monotonic()
        if plan.refusal is not None:
            raise plan.refusal
        self._expect_body(head, has_some=len(data) > end)
        return data[end:]

    def _plan(self, block: bytes) -> tuple[Head, Plan]:
        head = parse_head(block)
        try:
            planned = head, self._server.plan(head)
        except ServeError as error:
            return head, _answer_refusal(error)
        if len(block) <= _LONGEST_PLANNED:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[block] = planned
        return planned

    def _expect_body(self, head: Head, *, has_some: bool) -> None:
        limit = self._server.limits.body
        if head.length is None:
            self._chunked = ChunkedBody(limit)
        elif head.length > limit:
            raise PayloadTooLarge(
                f"the body is larger than {limit} bytes", limit=limit, received=head.length
            )
        else:
            self._missing = head.length
        if head.expects_continue and not has_some:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, data: bytes) -> bytes:
        if len(data) < self._missing:
            self._body.append(data)
            self._missing -= len(data)
            return b""
        self._body.append(data[: self._missing])
        body = b"".join(self._body)
        rest = data[self._missing :]
        self._start_current(body)
        return rest

    def _read_chunks(self, data: bytes) -> bytes:
        assert self._chunked is not None
        self._chunked.feed(data)
        if not self._chunked.done:
            return b""
        rest = self._chunked.rest
        self._start_current(self._chunked.body)
        return rest

    def _start_current(self, body: bytes) -> None:
        assert self._current is not None
        head, plan = self._current
        self._current = None
        self._chunked = None
        self._body = []
        self._start(head, plan, body)

    def _start(self, head: Head, plan: Plan, body: bytes) -> None:
        exchange = Exchange(self, head, plan.params, body)
        self._exchange = exchange
        try:
            plan.answer(exchange)
        except ServeError as error:
            exchange.fail(error)
        except Exception as error:
            self._server.crashed(exchange, error)

    def _refuse(self, error: ServeError) -> None:
        """Answer what can't be read on, and hang up once the client has had a chance to see it."""
        head = self._current[0] if self._current is not None else _UNREADABLE
        self._current = None
        self._chunked = None
        self._body = []
        self._buffer = b""
        exchange = Exchange(self, head, {}, b"")
        self._exchange = exchange
        self._closing = self._lingers = True
        exchange.fail(error)

    def _linger(self) -> None:
        """Close our side only: closing with unread bytes resets, and takes the answer with it."""
        if self._transport is not None:
            self._transport.write_eof()


_UNREADABLE = Head(
    method="GET",
    target="",
    query_string="",
    headers={},
    length=0,
    keep_alive=False,
    expects_continue=False,
    http_1_0=False,
)
