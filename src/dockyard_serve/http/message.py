"""What a handler sees of HTTP: a request with its whole body, and the response it gives back.

Rules: names of headers are lower case in requests, and as written in responses. The body of a
request is complete and within the size limit before a handler runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

import orjson

from dockyard_serve.errors import ServeError
from dockyard_serve.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    path: percent-decoded, without the query. params: what the route's `{name}`s matched. id: the
    client's X-Request-Id, or one made here.
    """

    method: str
    path: str
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    id: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of a repeated field the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer: a body of bytes, or an iterator whose pieces are sent as they come (chunked).

    The iterator is closed (`aclose`) if the client leaves. Content-Length, Date, Connection and
    X-Request-Id are added by the server.
    """

    status: int = 200
    media_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | AsyncIterator[bytes] = b""


def json_response(value: object, *, status: int = 200) -> Response:
    """An answer in JSON; numpy arrays and dataclasses are written as orjson writes them."""
    return Response(status=status, body=orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def error_response(error: ServeError) -> Response:
    """The answer that tells an error."""
    return Response(
        status=error.status,
        headers=tuple(error.headers.items()),
        body=orjson.dumps(error.body(), default=str),
    )


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path and what answers it: in `/models/{name}/docs`, the braces match one segment."""

    method: str
    path: str
    handler: Handler


class Models(Protocol):
    """What pages about the models may ask of the server."""

    def ready(self) -> Sequence[Model]:
        """The models that answer now, each in its default version, by name."""
        ...


Extension = Callable[[Models], Sequence[Route]]
"""Adds routes to the server, such as `/docs`: called once, before the socket is opened."""
