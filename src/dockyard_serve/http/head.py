"""The head of an HTTP/1.1 request, parsed strictly (RFC 9112), without any I/O.

Rules: what two programs could read differently is refused, since that is how requests are smuggled
past a proxy: bare CR or LF, spaces before a colon, folded lines, two lengths, a length beside
Transfer-Encoding. One regular expression per line is as fast here as a parser in C that calls back
into Python for every header, so there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dockyard_serve.errors import BadRequest, NotImplementedHere

# RFC 9110 5.6.2: token; RFC 9112 3: request-line; 5: field-line. Values may hold obs-text.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/(\d)\.(\d)\r\n")
_FIELD = re.compile(
    rb"(" + _TOKEN + rb"):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*\r\n"
)
_LENGTH = re.compile(r"\d{1,15}")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request's head. target: path as sent, still percent-encoded. length: of the body, in bytes;
    None if it is chunked."""

    method: str
    target: str
    query_string: str
    headers: Mapping[str, str]
    length: int | None
    keep_alive: bool
    expects_continue: bool
    http_1_0: bool


def parse_head(block: bytes) -> Head:
    """The head that `block` is, from the request line to the empty line.

    Raises BadRequest, or NotImplementedHere for a transfer coding other than chunked.
    """
    line = _REQUEST_LINE.match(block)
    if line is None:
        raise BadRequest("the request line isn't that of HTTP/1.1")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise BadRequest("the request is for another version of HTTP than 1.1 and 1.0")
    http_1_0 = minor == b"0"
    headers = _fields(block, line.end())
    if not http_1_0 and "host" not in headers:
        raise BadRequest("the Host header is missing")  # RFC 9112 3.2
    path, _, query = _origin_form(target.decode("ascii")).partition("?")
    connection = headers.get("connection", "").lower()
    return Head(
        method=method.decode("ascii"),
        target=path,
        query_string=query,
        headers=headers,
        length=_body_length(headers, http_1_0),
        keep_alive="keep-alive" in connection if http_1_0 else "close" not in connection,
        expects_continue=not http_1_0 and headers.get("expect", "").lower() == "100-continue",
        http_1_0=http_1_0,
    )


def _fields(block: bytes, at: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    end = len(block) - 2
    while at < end:
        field = _FIELD.match(block, at)
        if field is None:
            raise BadRequest("a header line isn't a name, a colon and a value")
        name = field[1].decode("ascii").lower()
        value = field[2].decode("latin-1")
        if name in headers:
            if name in {"host", "content-length"}:
                raise BadRequest(f"the {name} header is there twice")
            value = f"{headers[name]}, {value}"  # RFC 9110 5.3
        headers[name] = value
        at = field.end()
    if block[at:] != b"\r\n":
        raise BadRequest("the header lines don't end with an empty line")
    return headers


def _origin_form(target: str) -> str:
    if target.startswith("/") or target == "*":
        return target
    authority = _AUTHORITY.match(target)  # RFC 9112 3.2.2: a server must accept absolute-form
    if authority is None:
        raise BadRequest("the request's target is neither a path nor a URL")
    rest = target[authority.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def _body_length(headers: Mapping[str, str], http_1_0: bool) -> int | None:
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or http_1_0:
            # RFC 9112 6.1 lets a server refuse these; they are the usual means of smuggling.
            raise BadRequest("Transfer-Encoding can't be combined with a length or HTTP/1.0")
        if coding.lower() != "chunked":
            raise NotImplementedHere("the only transfer coding known here is chunked")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadRequest("Content-Length isn't a number")
    return int(length)
