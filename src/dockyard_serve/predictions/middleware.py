"""Log the predictions of any WSGI or ASGI app by wrapping it.

    app.wsgi_app = log_predictions(app.wsgi_app)    # Flask
    app = log_predictions(app)                      # Starlette, FastAPI

Rules: the app sees its request and the client its answer as without the log, but for X-Request-Id;
whatever fails in here, the request goes on. Only requests with a body are logged (POST, PUT,
PATCH). Bodies are looked at in the background. GET /metrics is answered here, for Prometheus,
unless the app answers it itself.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from dockyard_serve.predictions.content import kept
from dockyard_serve.predictions.counted import RequestCounts
from dockyard_serve.predictions.log import PredictionLog, metrics_text, open_log
from dockyard_serve.predictions.record import Record

_log = logging.getLogger("dockyard.predictions")

_METHODS = frozenset({"POST", "PUT", "PATCH"})
_MOST_KEPT = 4 << 20  # Bytes of a body that are looked at; of larger ones only their number.
_MOST_READ = 64 << 20  # Bytes of a request's body that are held; a larger one is left alone.
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_METRICS = "/metrics"
_PATIENCE = 2.0  # Seconds for requests that are being answered when SIGTERM comes.

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def log_predictions(
    app: Any,
    *,
    log: PredictionLog | None = None,
    model: str | None = None,
    version: str | None = None,
    metrics: bool = True,
) -> Any:
    """Wrap a WSGI or ASGI app so that its predictions are logged.

    log: by default the one that the environment asks for; model: by default MODEL_NAME, else the
    name of the file MODEL_PATH; version: by default MODEL_VERSION, else the beginning of that
    file's SHA-256; metrics: whether GET /metrics is answered.
    """
    log = open_log() if log is None else log
    named = _Named(model, version)
    call = getattr(app, "__call__", app)  # noqa: B004 - a coroutine function or an object with one
    is_asgi = inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call)
    if is_asgi:
        _end_politely(log, {})
        return _Asgi(app, log, named, metrics=metrics)
    wrapped = _Wsgi(app, log, named, metrics=metrics)
    _end_politely(log, wrapped.answering)
    return wrapped


class _Named:
    """Which model answers, told by the environment where the app doesn't say."""

    def __init__(self, model: str | None, version: str | None) -> None:
        path = os.environ.get("MODEL_PATH")
        file = Path(path) if path else None
        self.model = model or os.environ.get("MODEL_NAME") or (file.stem if file else None)
        self.version = version or os.environ.get("MODEL_VERSION")
        if self.version is None and file is not None:
            try:
                with file.open("rb") as opened:
                    self.version = hashlib.file_digest(opened, "sha256").hexdigest()[:12]
            except OSError:
                # A folder, or not there: the app will say so, if it matters.
                self.version = None


def _end_politely(log: PredictionLog, answering: dict[int, int]) -> None:
    """Let SIGTERM write what is queued, where nobody else has a handler for it.

    answering: the threads of the requests that aren't recorded yet. A client may have the whole
    answer before its thread comes to record it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        # A request of this very thread is what the signal interrupted: it can't go on meanwhile.
        here, patience = threading.get_ident(), time.monotonic() + _PATIENCE
        while set(answering.copy().values()) - {here} and time.monotonic() < patience:
            time.sleep(0.005)
        log.close()
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)


class _Seen:
    """One request while it is answered, and the record that it becomes."""

    def __init__(self, method: str, path: str, client: str | None, request_id: str | None) -> None:
        self.method = method
        self.path = path
        self.client = client
        given = request_id if request_id and _ID.fullmatch(request_id) else None
        self.request_id = given or uuid.uuid4().hex
        self.time = time.time()
        self._started = time.perf_counter()
        self.status = 500
        self.input_type = ""
        self.output_type = ""
        self.body = bytearray()
        self.answer = bytearray()
        self.answer_size = 0
        self.is_recorded = False

    def answered(self, part: bytes) -> None:
        """A part of the answer's body went by."""
        self.answer_size += len(part)
        if len(self.answer) < _MOST_KEPT:
            self.answer += part

    def record(self, log: PredictionLog, named: _Named, counts: RequestCounts) -> None:
        """Log it, once; what costs something happens in the background."""
        if self.is_recorded:
            return
        self.is_recorded = True
        seconds = time.perf_counter() - self._started
        counts.add(named.model, named.version, self.status, seconds)
        if not log.enabled:
            return
        settings = log.settings
        body, answer, is_cut = bytes(self.body), bytes(self.answer), self.answer_size > _MOST_KEPT

        def made() -> Record:
            return Record(
                time=self.time,
                request_id=self.request_id,
                status=self.status,
                latency_ms=seconds * 1000,
                model=named.model,
                version=named.version,
                path=self.path[:500],
                inputs=kept(
                    body,
                    self.input_type,
                    settings.inputs,
                    max_bytes=settings.max_bytes,
                    redact=settings.redact,
                ),
                outputs=kept(
                    answer,
                    self.output_type,
                    # A beginning is no answer; its digest at least says which one.
                    "digest" if is_cut and settings.outputs != "none" else settings.outputs,
                    max_bytes=settings.max_bytes,
                    redact=settings.redact,
                ),
                client=self.client,
            )

        log.add(made)


class _Wsgi:
    """A WSGI app (PEP 3333) with a log around it."""

    def __init__(self, app: Any, log: PredictionLog, named: _Named, *, metrics: bool) -> None:
        self._app = app
        self._log = log
        self._named = named
        self._metrics = metrics
        self._counts = RequestCounts()
        self.answering: dict[int, int] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request as the app does."""
        method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
        if self._metrics and method == "GET" and path == _METRICS:
            text = (self._counts.text() + metrics_text(self._log)).encode()
            start_response("200 OK", [("Content-Type", _PLAIN), ("Content-Length", str(len(text)))])
            return [text]
        if method not in _METHODS:
            found: Iterable[bytes] = self._app(environ, start_response)
            return found
        seen = _Seen(method, path, environ.get("REMOTE_ADDR"), environ.get("HTTP_X_REQUEST_ID"))
        seen.input_type = environ.get("CONTENT_TYPE", "")
        environ["HTTP_X_REQUEST_ID"] = seen.request_id
        _hold_body(environ, seen)
        self.answering[id(seen)] = threading.get_ident()

        def done() -> None:
            try:
                seen.record(self._log, self._named, self._counts)
            finally:
                self.answering.pop(id(seen), None)

        def begin(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seen.status = int(status[:3])
            names = {name.lower(): value for name, value in headers}
            seen.output_type = names.get("content-type", "")
            if "x-request-id" not in names:
                headers = [*headers, ("X-Request-Id", seen.request_id)]
            return start_response(status, headers, *rest)

        try:
            answer = self._app(environ, begin)
        except BaseException:
            done()
            raise
        return _Passing(answer, done, seen)


def _hold_body(environ: dict[str, Any], seen: _Seen) -> None:
    """Read the request's body, and give the app one to read."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return
    if not 0 < length <= _MOST_READ:
        return
    stream = environ["wsgi.input"]
    data = stream.read(length)
    environ["wsgi.input"] = io.BytesIO(data)
    seen.body += data[:_MOST_KEPT]


class _Passing:
    """The app's answer on its way; told when it is over (PEP 3333: close is always called)."""

    def __init__(self, answer: Iterable[bytes], done: Callable[[], None], seen: _Seen) -> None:
        self._answer = answer
        self._done = done
        self._seen = seen

    def __iter__(self) -> Iterator[bytes]:
        """The parts of the answer."""
        for part in self._answer:
            self._seen.answered(part)
            yield part

    def close(self) -> None:
        """The answer is over."""
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            self._done()


class _Asgi:
    """An ASGI app (version 3) with a log around it."""

    def __init__(self, app: Any, log: PredictionLog, named: _Named, *, metrics: bool) -> None:
        self._app = app
        self._log = log
        self._named = named
        self._metrics = metrics
        self._counts = RequestCounts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as the app does."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._closing(send))
            return
        method, path = scope.get("method", ""), scope.get("path", "")
        if scope["type"] == "http" and self._metrics and method == "GET" and path == _METRICS:
            await _answer(send, (self._counts.text() + metrics_text(self._log)).encode())
            return
        if scope["type"] != "http" or method not in _METHODS:
            await self._app(scope, receive, send)
            return
        headers = _header_map(scope["headers"])
        client = scope.get("client")
        seen = _Seen(method, path, client[0] if client else None, headers.get("x-request-id"))
        seen.input_type = headers.get("content-type", "")

        async def hear() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "http.request" and len(seen.body) < _MOST_KEPT:
                seen.body += message.get("body", b"")[: _MOST_KEPT - len(seen.body)]
            return message

        async def tell(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                given = _header_map(message.get("headers", ()))
                seen.output_type = given.get("content-type", "")
                if "x-request-id" not in given:
                    extra = (b"x-request-id", seen.request_id.encode())
                    message = {**message, "headers": [*message.get("headers", ()), extra]}
            elif message["type"] == "http.response.body":
                seen.answered(message.get("body", b""))
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                seen.record(self._log, self._named, self._counts)

        try:
            await self._app(scope, hear, tell)
        finally:
            seen.record(self._log, self._named, self._counts)

    def _closing(self, send: Send) -> Send:
        """What closes the log when the server has answered everything."""

        async def tell(message: MutableMapping[str, Any]) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                import asyncio

                await asyncio.to_thread(self._log.close)
            await send(message)

        return tell


_PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def _header_map(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


async def _answer(send: Send, text: bytes) -> None:
    headers = [(b"content-type", _PLAIN.encode()), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
