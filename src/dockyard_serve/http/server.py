"""The connections of one worker: which paths they reach, when they are too slow, how they end.

Rules: draining loses nothing. While it drains the server still accepts for a moment, answers with
`Connection: close`, and ends idle connections only after they were idle for a while, since a
request may be on its way. When it stops listening, it first takes what the kernel has accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable

from dockyard_serve.errors import (
    BadRequest,
    ModelFailed,
    PayloadTooLarge,
    ServeError,
    UnsupportedMediaType,
)
from dockyard_serve.http.connection import Connection, Limits, Plan, Plans
from dockyard_serve.http.exchange import Exchange
from dockyard_serve.http.head import Head
from dockyard_serve.http.message import Handler, Request, Response, error_response
from dockyard_serve.http.router import Answer, Router
from dockyard_serve.metrics import Value

log = logging.getLogger("dockyard.serve")

_SO_ATTACH_FILTER = 26
_TURNS = 20  # Of 10 ms, at most, for connections that the kernel has and the loop hasn't.
# Classic BPF over a TCP segment: those with SYN and without ACK are dropped, all others are kept,
# so that a handshake that has begun is finished.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # Load the byte of flags.
        (0x54, 0, 0, 0x12),  # Keep SYN and ACK.
        (0x15, 0, 1, 0x02),  # SYN alone? Else skip one.
        (0x06, 0, 0, 0),  # Keep nothing of it.
        (0x06, 0, 0, 0xFFFFFFFF),  # Keep all of it.
    )
)

Guard = Callable[[Head, str], None]
AddHeaders = Callable[[Head], Iterable[tuple[str, str]]]


class HttpServer:
    """Serves a router on sockets."""

    def __init__(
        self,
        router: Router,
        limits: Limits,
        *,
        guard: Guard = lambda head, target: None,
        add_headers: AddHeaders | None = None,
        preflight: Answer | None = None,
        open_connections: Value | None = None,
        on_answer: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.limits = limits
        self.draining = False
        self._router = router
        self._guard = guard
        self._add_headers = add_headers
        self._preflight = preflight
        self._on_answer = on_answer
        self._open_connections = open_connections
        self._connections: set[Connection] = set()
        self._plans: Plans = {}
        self._listeners: list[tuple[asyncio.Server, socket.socket]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()

    # For connections.

    def plan(self, head: Head) -> Plan:
        """What answers a head; raises what refuses it."""
        preflights = head.method == "OPTIONS" and "access-control-request-method" in head.headers
        if preflights and self._preflight is not None:
            return Plan(self._preflight, {})
        self._guard(head, head.target)
        match = self._router.match(head.method, head.target)
        if match.answer is None:
            allow = (("Allow", ", ".join(match.allowed)),)
            return Plan(
                lambda exchange: exchange.send(b"", status=204, media_type=b"", headers=allow), {}
            )
        answer = match.answer
        coding = head.headers.get("content-encoding", "identity").lower()
        if coding in {"gzip", "deflate"}:
            plain, limit = answer, self.limits.body

            def answer(exchange: Exchange) -> None:
                exchange.body = inflate(exchange.body, limit)
                plain(exchange)

        elif coding != "identity":
            raise UnsupportedMediaType(
                "the body's Content-Encoding isn't known here", expected="gzip, deflate, identity"
            )
        return Plan(answer, match.params)

    def added_headers(self, head: Head) -> Iterable[tuple[str, str]]:
        return () if self._add_headers is None else self._add_headers(head)

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._open_connections is not None:
            self._open_connections.add(1)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(1.0, self._sweep)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._open_connections is not None:
            self._open_connections.add(-1)
        if not self._connections:
            self._empty.set()

    def answered(self, exchange: Exchange) -> None:
        if self._on_answer is not None:
            self._on_answer(exchange)

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        log.error("a request failed", exc_info=error, extra={"request_id": exchange.id})
        exchange.fail(ModelFailed("the server failed on this request; its log says why"))

    def _sweep(self) -> None:
        self._sweeping = None
        if not self._connections:
            return  # Nothing runs while nobody is there.
        now = time.monotonic()
        for connection in list(self._connections):
            connection.sweep(now)
        self._sweeping = self._loop.call_later(1.0, self._sweep)

    # For routes with coroutines.

    def coroutine(self, handler: Handler) -> Answer:
        """An answer that runs a coroutine, which is cancelled if the client leaves."""

        def answer(exchange: Exchange) -> None:
            task = self._loop.create_task(self._handle(exchange, handler))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            exchange.on_gone = lambda: bool(task.cancel())

        return answer

    async def _handle(self, exchange: Exchange, handler: Handler) -> None:
        head = exchange.head
        try:
            response = await handler(
                Request(
                    method=head.method,
                    path=head.target,
                    query_string=head.query_string,
                    headers=head.headers,
                    body=exchange.body,
                    params=exchange.params,
                    id=exchange.id,
                )
            )
        except Exception as error:
            response = self._told(exchange, error)
        await self._respond(exchange, response)

    def _told(self, exchange: Exchange, error: Exception) -> Response:
        if isinstance(error, ServeError):
            return error_response(error)
        log.error("a request failed", exc_info=error, extra={"request_id": exchange.id})
        return error_response(ModelFailed("the server failed on this request; its log says why"))

    async def _respond(self, exchange: Exchange, response: Response) -> None:
        media_type = response.media_type.encode("latin-1")
        if isinstance(response.body, bytes):
            exchange.on_gone = None
            exchange.send(
                response.body,
                status=response.status,
                media_type=media_type,
                headers=response.headers,
            )
            return
        pieces = response.body
        stream = exchange.start_stream(
            status=response.status, media_type=media_type, headers=response.headers
        )
        try:
            if stream is None:
                return
            async for piece in pieces:
                if not await stream.write(piece):
                    return
            exchange.on_gone = None
            stream.end()
        except Exception as error:
            log.error("a stream failed", exc_info=error, extra={"request_id": exchange.id})
            if stream is not None:
                exchange.on_gone = None
                stream.abort()
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    # Sockets.

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        server = await self._loop.create_server(
            lambda: Connection(self, self._plans), sock=sock, backlog=2048
        )
        self._listeners.append((server, sock))

    async def drain(self, grace: float, *, accepting: float = 0.5, idle: float = 1.0) -> bool:
        """Answer what comes for a moment, then what is in flight; whether it all ended in time.

        grace: seconds for everything; accepting: seconds for which new connections are taken; idle:
        seconds after which a connection without a request is closed.
        """
        until = time.monotonic() + grace
        self.draining = True
        await asyncio.sleep(min(accepting, grace / 4))
        await self.stop_listening()
        while self._connections and (left := until - time.monotonic()) > 0:
            now = time.monotonic()
            for connection in list(self._connections):
                if not connection.busy and now - connection.idle_since > min(idle, grace / 4):
                    connection.close()
            self._empty.clear()
            if self._connections:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._empty.wait(), min(left, 0.05))
        finished = not any(connection.busy for connection in self._connections)
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        return finished

    async def stop_listening(self) -> None:
        """Close the listening sockets, and keep what the kernel had accepted."""
        for server, sock in self._listeners:
            refuse_new_connections(sock)
            waiting = select.poll()
            waiting.register(sock, select.POLLIN)
            # The loop takes what is in the backlog, and what comes to the end of its handshake.
            for turn in range(_TURNS):
                await asyncio.sleep(0.01)
                if turn > 1 and not waiting.poll(0):
                    break
            server.close()
        self._listeners = []


def refuse_new_connections(sock: socket.socket) -> None:
    """Let the kernel begin no new handshake, so that closing the socket resets none it finished."""
    code = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(code))
    with contextlib.suppress(OSError):  # Only Linux has it; elsewhere a tiny window stays open.
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def inflate(body: bytes, limit: int) -> bytes:
    """A body in gzip or zlib (RFC 9110 8.4.1), or bare deflate, inflated up to the limit."""
    for bits in (47, -15):
        inflater = zlib.decompressobj(bits)
        try:
            plain = inflater.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(plain) > limit:
            raise PayloadTooLarge(f"the inflated body is larger than {limit} bytes")
        if not inflater.eof:
            raise BadRequest("the compressed body ends too soon")
        return plain
    raise BadRequest("the body isn't what its Content-Encoding says")
