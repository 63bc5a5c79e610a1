"""Heads of requests, chunked bodies: what is taken, and what is refused for safety."""

from __future__ import annotations

import pytest

from dockyard_serve.errors import ClientError, NotImplementedHere, PayloadTooLarge
from dockyard_serve.http.chunked import ChunkedBody
from dockyard_serve.http.head import parse_head

HOST = b"Host: a\r\n"


def head(lines: bytes, request: bytes = b"POST /v2?a=b HTTP/1.1\r\n") -> bytes:
    return request + lines + b"\r\n"


def test_reads_method_path_query_headers_and_length():
    found = parse_head(head(HOST + b"Content-Length: 12\r\nX-A:  b c \r\nx-a: d\r\n"))
    assert (found.method, found.target, found.query_string) == ("POST", "/v2", "a=b")
    assert found.headers == {"host": "a", "content-length": "12", "x-a": "b c, d"}
    assert (found.length, found.keep_alive) == (12, True)


@pytest.mark.parametrize(
    ("block", "keep_alive"),
    [
        (head(HOST), True),
        (head(HOST + b"Connection: close\r\n"), False),
        (head(b"", b"GET / HTTP/1.0\r\n"), False),
        (head(b"Connection: keep-alive\r\n", b"GET / HTTP/1.0\r\n"), True),
    ],
    ids=["1.1", "1.1 close", "1.0", "1.0 keep-alive"],
)
def test_knows_whether_the_connection_stays(block, keep_alive):
    assert parse_head(block).keep_alive is keep_alive


def test_takes_a_whole_url_as_target():
    assert parse_head(head(HOST, b"GET http://host:1/a?b HTTP/1.1\r\n")).target == "/a"
    assert parse_head(head(HOST, b"GET http://host HTTP/1.1\r\n")).target == "/"


def test_a_chunked_body_has_no_length():
    assert parse_head(head(HOST + b"Transfer-Encoding: chunked\r\n")).length is None


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(head(HOST, b"GET /\r\n"), id="no version"),
        pytest.param(head(HOST, b"GET / HTTP/2.0\r\n"), id="another version"),
        pytest.param(head(HOST, b"GET  / HTTP/1.1\r\n"), id="two spaces"),
        pytest.param(
            head(HOST, b"GET /\xc3\xa4 HTTP/1.1\r\n"), id="bytes beyond ASCII in the target"
        ),
        pytest.param(head(HOST, b"GET a HTTP/1.1\r\n"), id="target is no path"),
        pytest.param(head(b""), id="no host"),
        pytest.param(head(HOST + HOST), id="two hosts"),
        pytest.param(head(HOST + b"A : b\r\n"), id="space before the colon"),
        pytest.param(head(HOST + b"A: b\r\n c\r\n"), id="folded line"),
        pytest.param(head(HOST + b"A: b\nC: d\r\n"), id="bare LF"),
        pytest.param(head(HOST + b"A: b\rc\r\n"), id="bare CR"),
        pytest.param(head(HOST + b"A: b\x00\r\n"), id="NUL"),
        pytest.param(head(HOST + b": b\r\n"), id="no name"),
        pytest.param(head(HOST + b"Content-Length: -1\r\n"), id="negative length"),
        pytest.param(head(HOST + b"Content-Length: 1e3\r\n"), id="length isn't a number"),
        pytest.param(head(HOST + b"Content-Length: 1, 2\r\n"), id="list of lengths"),
        pytest.param(head(HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n"), id="two lengths"),
        pytest.param(
            head(HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            id="length beside chunked",
        ),
        pytest.param(
            head(b"Transfer-Encoding: chunked\r\n", b"GET / HTTP/1.0\r\n"), id="chunked in 1.0"
        ),
    ],
)
def test_refuses_what_could_be_read_differently(block):
    with pytest.raises(ClientError):
        parse_head(block)


def test_knows_no_other_transfer_coding_than_chunked():
    with pytest.raises(NotImplementedHere):
        parse_head(head(HOST + b"Transfer-Encoding: gzip, chunked\r\n"))


CHUNKED = b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET"


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_decodes_chunks_however_they_arrive(step):
    body = ChunkedBody(100)
    at = 0
    while not body.done:
        body.feed(CHUNKED[at : at + step])
        at += step
    assert body.body == b"abc0123456789"
    assert body.rest + CHUNKED[at:] == b"GET"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x\r\n", ClientError),
        (b"-1\r\n", ClientError),
        (b"3\r\nabcd\r\n", ClientError),
        (b"\r\n", ClientError),
        (b"1" * 5000, ClientError),
        (b"FFFFFFFFF\r\n", PayloadTooLarge),
        (b"0\r\n" + b"A: b\r\n" * 4000, ClientError),
    ],
    ids=["no size", "negative", "too long", "empty", "long line", "too large", "long trailer"],
)
def test_refuses_chunks_that_are_none(data, error):
    body = ChunkedBody(100)
    with pytest.raises(error):
        body.feed(data)
