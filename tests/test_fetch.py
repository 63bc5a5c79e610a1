"""Downloads against a real server on the loopback that misbehaves on purpose."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from dockyard.cache import Cache
from dockyard.errors import FetchError
from dockyard.fetch import Download, Fetcher, StatusError, http, redacted

BODY = bytes(range(256)) * 4096  # 1 MiB
SIZE = len(BODY)
ETAG = '"v1"'


class Server:
    """Serves BODY at every path; `script` answers come first, one per request."""

    def __init__(self):
        self.script = []
        self.requests = []
        self.ranges = True
        self.etag = ETAG
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers.items())))
                if outer.script:
                    outer.script.pop(0)(self)
                else:
                    outer.serve(self)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, request, body=BODY):
        start = 0
        asked = request.headers.get("Range")
        condition = request.headers.get("If-Range")
        if self.etag and request.headers.get("If-None-Match") == self.etag:
            request.send_response(304)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if self.ranges and asked and condition in (None, self.etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        if self.etag:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:])

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def refuse(status, **headers):
    def answer(request):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def cut_after(count, *, etag=ETAG, declare=True, body=BODY):
    def answer(request):
        request.send_response(200)
        if etag:
            request.send_header("ETag", etag)
        if declare:
            request.send_header("Content-Length", str(len(BODY)))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(body[:count])
        request.close_connection = True

    return answer


@contextmanager
def serving():
    server = Server()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, tmp_path):
    monkeypatch.setattr(http, "LONGEST_PAUSE", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def wanted(server, path="/file.whl", *, body=BODY, size=SIZE, sha256=None):
    return Download(
        url=server.url + path,
        sha256=sha256 or hashlib.sha256(body).hexdigest(),
        size=size,
        title="file.whl",
    )


def leftovers(cache):
    partial = cache.root / "partial"
    return sorted(path.name for path in partial.iterdir()) if partial.exists() else []


def test_returns_the_files_in_the_order_asked_for(server, cache):
    bodies = {f"/{number}": bytes([number]) * 1000 for number in range(9)}

    def answer(request):
        server.serve(request, bodies[request.path])

    server.script = [answer] * len(bodies)
    downloads = [wanted(server, path, body=body, size=1000) for path, body in bodies.items()]
    paths = Fetcher(cache).fetch([*downloads, downloads[0]])
    assert [path.read_bytes() for path in paths] == [*bodies.values(), bodies["/0"]]
    assert len(server.requests) == len(bodies)
    assert leftovers(cache) == []


def test_asks_no_server_for_a_blob_that_is_cached(server, cache):
    fetcher = Fetcher(cache)
    first = fetcher.fetch([wanted(server)])
    assert fetcher.fetch([wanted(server)]) == first
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        pytest.param([refuse(500), refuse(503)], 3, id="server errors"),
        pytest.param([refuse(429, Retry_After="0")], 2, id="too many requests"),
        pytest.param([refuse(408)], 2, id="request time-out"),
        pytest.param([cut_after(0)], 2, id="cut before the first byte"),
        pytest.param([cut_after(400_000)], 2, id="cut in the middle"),
        pytest.param([cut_after(400_000, declare=False)], 2, id="cut without a declared length"),
        pytest.param([cut_after(400_000, etag=None)], 2, id="cut, no validator"),
    ],
)
def test_failures_that_may_pass_are_tried_again(server, cache, script, requests):
    server.script = list(script)
    (path,) = Fetcher(cache).fetch([wanted(server)])
    assert path.read_bytes() == BODY
    assert len(server.requests) == requests
    assert leftovers(cache) == []


def test_gives_up_after_failures_without_progress(server, cache):
    server.script = [refuse(503)] * 20
    with pytest.raises(StatusError) as caught:
        Fetcher(cache).fetch([wanted(server)])
    assert caught.value.status == 503
    assert len(server.requests) == http.ATTEMPTS


def test_progress_buys_new_attempts(server, cache):
    def some_more(request):
        asked = request.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        request.send_response(206 if start else 200)
        request.send_header("ETag", ETAG)
        request.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        request.send_header("Content-Length", str(len(BODY) - start))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(BODY[start : start + 100_000])
        request.close_connection = True

    server.script = [some_more] * 20
    (path,) = Fetcher(cache).fetch([wanted(server)])
    assert path.read_bytes() == BODY
    assert len(server.requests) == 11


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "netrc"), (403, "netrc"), (404, "address"), (410, "later")]
)
def test_a_refusal_is_reported_at_once(server, cache, status, hint):
    server.script = [refuse(status)]
    with pytest.raises(StatusError) as caught:
        Fetcher(cache).fetch([wanted(server)])
    assert caught.value.status == status
    assert hint in caught.value.hint
    assert server.url in caught.value.where
    assert len(server.requests) == 1


class Pauses:
    """Stands for a threading.Event; remembers how long it was waited for."""

    def __init__(self):
        self.seconds = []

    def wait(self, seconds):
        self.seconds.append(seconds)
        return False


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        pytest.param("7", 7, 7, id="seconds"),
        pytest.param("900", 60, 60, id="longer than anyone waits"),
        pytest.param(format_datetime(datetime.now(UTC) + timedelta(hours=1)), 60, 60, id="date"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0, id="date that is past"),
        pytest.param("soon", 1, 1, id="nonsense"),
    ],
)
def test_honours_retry_after(monkeypatch, value, least, most):
    monkeypatch.setattr(http, "LONGEST_PAUSE", 60.0)
    pauses = Pauses()
    response = httpx.Response(429, headers={"Retry-After": value})
    for attempt in http.Attempts("here", pauses):
        if pauses.seconds:
            break
        with attempt:
            http.check_status(response, "http://127.0.0.1/")
    assert least <= pauses.seconds[0] <= most


def test_an_interrupted_download_goes_on_in_the_next_run(server, cache):
    server.script = [cut_after(300_000), *[refuse(503)] * 20]
    with pytest.raises(FetchError):
        Fetcher(cache).fetch([wanted(server)])
    assert len(leftovers(cache)) == 2
    server.script, server.requests = [], []
    (path,) = Fetcher(cache).fetch([wanted(server)])
    assert path.read_bytes() == BODY
    ((_, headers),) = server.requests
    assert headers["Range"] == "bytes=300000-"
    assert headers["If-Range"] == ETAG
    assert leftovers(cache) == []


def test_starts_again_where_the_server_knows_no_ranges(server, cache):
    server.ranges = False
    server.script = [cut_after(300_000)]
    (path,) = Fetcher(cache).fetch([wanted(server)])
    assert path.read_bytes() == BODY


def test_halves_of_two_versions_are_never_joined(server, cache):
    # The server has no ETag, so only the final hash can tell that the file was replaced.
    server.etag = None
    server.script = [cut_after(1000, etag=None, body=b"x" * 1000)]
    (path,) = Fetcher(cache).fetch([wanted(server)])
    assert path.read_bytes() == BODY


def test_a_replaced_file_is_fetched_from_its_start(server, cache):
    server.script = [cut_after(300_000, etag='"v0"')]
    (path,) = Fetcher(cache).fetch([wanted(server)])
    assert path.read_bytes() == BODY
    assert server.requests[1][1]["If-Range"] == '"v0"'


def test_wrong_bytes_are_refused_and_leave_nothing(server, cache):
    with pytest.raises(FetchError, match="SHA-256") as caught:
        Fetcher(cache).fetch([wanted(server, sha256="0" * 64)])
    assert "lock again" in caught.value.hint
    assert leftovers(cache) == []
    assert not cache.has_blob("0" * 64)


def test_stops_a_server_that_declares_more_than_the_lock(server, cache):
    with pytest.raises(FetchError, match="offers 1048576 bytes"):
        Fetcher(cache).fetch([wanted(server, size=1000)])


def test_stops_a_server_that_sends_more_than_the_lock(server, cache):
    def endless(request):
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        try:
            for _ in range(2000):
                request.wfile.write(BODY)
        except OSError:
            server.stopped = True
        request.close_connection = True

    server.script = [endless]
    with pytest.raises(FetchError, match="more than the 5000000 bytes"):
        Fetcher(cache).fetch([wanted(server, size=5_000_000)])
    assert leftovers(cache) == []


def test_credentials_stay_with_their_host(server, cache):
    with serving() as other:
        server.script = [refuse(302, Location=other.url + "/elsewhere")]
        url = server.url.replace("http://", "http://user:p%40ss@") + "/file.whl"
        Fetcher(cache).fetch(
            [Download(url=url, sha256=None, size=None, title="file.whl")],
        )
        assert server.requests[0][1]["Authorization"] == "Basic dXNlcjpwQHNz"
        assert "Authorization" not in other.requests[0][1]


def test_credentials_follow_a_redirect_on_their_host(server, cache):
    server.script = [refuse(301, Location="/elsewhere")]
    url = server.url.replace("http://", "http://user:pw@") + "/file.whl"
    Fetcher(cache).fetch([Download(url=url, sha256=None, size=None, title="file.whl")])
    assert [path for path, _ in server.requests] == ["/file.whl", "/elsewhere"]
    assert "Authorization" in server.requests[1][1]


def test_netrc_gives_credentials(server, cache, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password pw\n")
    with serving() as other:
        server.script = [refuse(302, Location=other.url + "/elsewhere")]
        Fetcher(cache).fetch([wanted(server)])
        assert server.requests[0][1]["Authorization"] == "Basic dXNlcjpwdw=="
        assert "Authorization" not in other.requests[0][1]


def test_credentials_are_never_shown(server, cache):
    server.script = [refuse(404)]
    url = server.url.replace("http://", "http://user:secret@") + "/file.whl"
    with pytest.raises(FetchError) as caught:
        Fetcher(cache).fetch([Download(url=url, sha256=None, size=None, title="file.whl")])
    assert "secret" not in str(caught.value)
    assert (
        redacted("https://user:secret@example.org:8443/x?y=z") == "https://example.org:8443/x?y=z"
    )


def test_a_redirect_to_a_file_is_refused(server, cache):
    server.script = [refuse(302, Location="file:///etc/passwd")]
    with pytest.raises(FetchError, match="isn't safe to follow"):
        Fetcher(cache).fetch([wanted(server)])


def test_redirects_in_a_circle_end(server, cache):
    server.script = [refuse(302, Location="/again")] * 50
    with pytest.raises(FetchError, match="more than 10 times"):
        Fetcher(cache).fetch([wanted(server)])


def test_two_fetchers_download_a_file_once(server, cache):
    def slow(request):
        time.sleep(0.3)
        server.serve(request)

    server.script = [slow, slow]
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.extend(Fetcher(cache).fetch([wanted(server)])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [BODY, BODY]
    assert len(server.requests) == 1


def test_a_failure_among_many_names_the_file_that_failed(server, cache):
    downloads = [wanted(server), wanted(server, "/bad.whl", sha256="0" * 64)]
    with pytest.raises(FetchError, match="SHA-256") as caught:
        Fetcher(cache).fetch(downloads)
    assert caught.value.where == server.url + "/bad.whl"


def test_offline_names_everything_that_is_missing(server, cache):
    Fetcher(cache).fetch([wanted(server)])
    missing = [
        Download(url=f"{server.url}/{name}", sha256=name[0] * 64, size=1, title=name)
        for name in ("a.whl", "b.whl")
    ]
    offline = Fetcher(cache, offline=True)
    with pytest.raises(FetchError, match=r"a\.whl, b\.whl"):
        offline.fetch([wanted(server), *missing])
    assert offline.fetch([wanted(server)])[0].read_bytes() == BODY
    assert len(server.requests) == 1


def test_no_network_is_a_fetch_error_with_a_hint(cache):
    with serving() as server:
        download = wanted(server)
    with pytest.raises(FetchError) as caught:
        Fetcher(cache).fetch([download])
    assert "network" in caught.value.hint


@pytest.mark.parametrize("url", ["http://[broken", "gopher://host/x", "file://host/x"])
def test_an_unusable_url_is_a_fetch_error(cache, url):
    with pytest.raises(FetchError):
        Fetcher(cache).fetch([Download(url=url, sha256="0" * 64, size=1, title="x")])


def test_a_ca_file_that_is_none_is_named(server, cache, tmp_path):
    missing = tmp_path / "ca.pem"
    with pytest.raises(FetchError, match="CA file") as caught:
        Fetcher(cache, ca_file=missing).fetch([wanted(server)])
    assert caught.value.where == str(missing)


@pytest.mark.parametrize("form", ["path", "url"])
def test_local_files_are_used_in_place(cache, tmp_path, form):
    path = tmp_path / "a file.whl"
    path.write_bytes(BODY)
    url = str(path) if form == "path" else path.as_uri()
    sha256 = hashlib.sha256(BODY).hexdigest()
    download = Download(url=url, sha256=sha256, size=len(BODY), title="file")
    assert Fetcher(cache, offline=True).fetch([download, download]) == [path, path]
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(FetchError, match="SHA-256"):
        Fetcher(cache).fetch([download])
    path.write_bytes(b"short")
    with pytest.raises(FetchError, match="has 5 bytes"):
        Fetcher(cache).fetch([download])
    path.unlink()
    with pytest.raises(FetchError, match="can't be read"):
        Fetcher(cache).fetch([download])


def test_a_local_file_is_hashed_once(cache, tmp_path, monkeypatch):
    path = tmp_path / "file.whl"
    path.write_bytes(BODY)
    sha256 = hashlib.sha256(BODY).hexdigest()
    download = Download(url=str(path), sha256=sha256, size=None, title="file")
    Fetcher(cache).fetch([download])
    monkeypatch.setattr(Fetcher, "_hash_local", lambda *args: pytest.fail("hashed again"))
    assert Fetcher(cache).fetch([download]) == [path]


def test_an_unhashed_download_is_asked_for_again_but_not_sent_again(server, cache):
    download = Download(url=server.url + "/x", sha256=None, size=None, title="x")
    first = Fetcher(cache).fetch([download])
    assert Fetcher(cache).fetch([download]) == first
    assert server.requests[1][1]["If-None-Match"] == ETAG
    assert Fetcher(cache, offline=True).fetch([download]) == first
    assert len(server.requests) == 2


def test_documents_are_revalidated_and_kept(server, cache):
    url = server.url + "/index.html"
    fetcher = Fetcher(cache)
    assert fetcher.read(url, max_size=len(BODY)) == BODY
    assert fetcher.read(url, max_size=len(BODY)) == BODY
    assert server.requests[1][1]["If-None-Match"] == ETAG
    assert fetcher.read(url, max_size=len(BODY), fresh=False) == BODY
    assert Fetcher(cache, offline=True).read(url, max_size=len(BODY)) == BODY
    assert len(server.requests) == 2
    with pytest.raises(FetchError, match="isn't in the cache"):
        Fetcher(cache, offline=True).read(url + "?other", max_size=10)


def test_a_document_may_not_be_larger_than_allowed(server, cache, tmp_path):
    with pytest.raises(FetchError, match="larger than 1000 bytes"):
        Fetcher(cache).read(server.url + "/index.html", max_size=1000)
    path = tmp_path / "index.html"
    path.write_bytes(BODY)
    with pytest.raises(FetchError, match="larger than 1000 bytes"):
        Fetcher(cache).read(path.as_uri(), max_size=1000)


class Recorder:
    """A reporter that remembers."""

    def __init__(self):
        self.tasks = {}

    @contextmanager
    def task(self, text, *, total=None):
        recorder = self

        class Task:
            def advance(self, amount):
                recorder.tasks[text, total] += amount

            def describe(self, text):
                pass

        self.tasks[text, total] = 0
        yield Task()

    def note(self, text):
        raise AssertionError(text)

    warn = note


def test_progress_counts_each_byte_once(server, cache):
    server.ranges = False
    server.script = [cut_after(300_000)]
    recorder = Recorder()
    Fetcher(cache, reporter=recorder).fetch([wanted(server)])
    assert recorder.tasks == {("file.whl", len(BODY)): len(BODY)}


def test_tiny_downloads_make_no_noise(server, cache):
    recorder = Recorder()
    body = b"tiny"
    server.script = [lambda request: server.serve(request, body)]
    Fetcher(cache, reporter=recorder).fetch([wanted(server, body=body, size=4)])
    assert recorder.tasks == {}
