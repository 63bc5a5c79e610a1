"""A registry that misbehaves on cue: right in everything, except where a test scripts a fault.

Rules: all requests are kept, with their headers, so that a test can say what was sent where. A
fault is for one method and a pattern of paths, and acts a number of times.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

ALWAYS = 10_000
USER, PASSWORD = "ada", "open-sesame-42"
_PIECE = 1 << 14


@dataclass(frozen=True)
class Seen:
    """One request that arrived; body: how many bytes it announced."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: int

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


Act = Callable[["Handler"], bool]


@dataclass
class Fault:
    """What to do instead: act returns whether the request has been dealt with."""

    method: str
    pattern: str
    act: Act
    times: int = 1
    skip: int = 0


@dataclass
class ScriptedRegistry:
    """Its state; host is "127.0.0.1:PORT"."""

    host: str = ""
    auth: str = ""  # "basic", "token", or nobody is asked
    realm: str = ""
    expires_in: float = 300.0
    mounts: bool = True
    referrers: bool = False
    ranges: bool = True
    location: str = "absolute"  # "relative", or another host's origin
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    tokens: dict[str, tuple[set[str], float]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, pattern: str, act: Act, *, times: int = 1, skip: int = 0) -> None:
        """Script a fault."""
        self.faults.append(Fault(method, pattern, act, times, skip))

    def requests(self, method: str, pattern: str = "") -> list[Seen]:
        """The requests of this method whose path has the pattern."""
        return [
            each for each in self.seen if each.method == method and re.search(pattern, each.path)
        ]

    def revoke_tokens(self) -> None:
        """Let every token given so far be worthless."""
        self.tokens.clear()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    registry: ScriptedRegistry

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.url_path = parts.path
        self.query = parse_qs(parts.query)
        self.left = int(self.headers.get("Content-Length") or 0)
        registry = self.registry
        with registry.lock:
            registry.seen.append(
                Seen(
                    self.command,
                    parts.path,
                    self.query,
                    {key.lower(): value for key, value in self.headers.items()},
                    self.left,
                )
            )
            act = self._fault()
        if act is not None and act(self):
            return
        if self._let_in():
            self._answer()

    def _fault(self) -> Act | None:
        for fault in self.registry.faults:
            if fault.method == self.command and re.search(fault.pattern, self.url_path):
                if fault.skip:
                    fault.skip -= 1
                elif fault.times:
                    fault.times -= 1
                    return fault.act
        return None

    # Saying something.

    def body(self) -> bytes:
        """Read what is left of the request's body."""
        data = b""
        while self.left:
            data += self.some()
        return data

    def some(self) -> bytes:
        data = self.rfile.read(min(self.left, _PIECE))
        self.left -= len(data)
        if not data:
            self.left = 0
        return data

    def say(self, status: int, headers: dict[str, str] | None = None, data: bytes = b"") -> bool:
        """Answer, after reading the rest of the request."""
        self.body()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        return True

    def say_error(self, status: int, code: str, message: str = "", **headers: str) -> bool:
        """Answer as the specification's "Error Codes" have it."""
        data = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.say(status, named | {"Content-Type": "application/json"}, data)

    def hang_up(self) -> bool:
        """Close the connection, at once and without a word."""
        self.close_connection = True
        with suppress(OSError):  # The client may be quicker.
            self.connection.shutdown(socket.SHUT_RDWR)
        return True

    # Who is there.

    def _let_in(self) -> bool:
        registry = self.registry
        if not registry.auth or self.url_path == "/token":
            return True
        given = self.headers.get("Authorization") or ""
        if registry.auth == "basic":
            if given == _basic():
                return True
            self.say_error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="the tests"')
            return False
        scope = self._scope()
        allowed, expires = registry.tokens.get(given.removeprefix("Bearer "), (set(), 0.0))
        if time.monotonic() < expires and scope <= allowed:
            return True
        realm = registry.realm or f"http://{registry.host}/token"
        asked = " ".join(f"repository:{each}" for each in sorted(scope))
        challenge = f'Bearer realm="{realm}",service="tests",scope="{asked}"'
        self.say_error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        return False

    def _scope(self) -> set[str]:
        match = re.match(r"/v2/(.+?)/(?:blobs|manifests|tags|referrers)/", self.url_path)
        if match is None:
            return set()
        action = "pull" if self.command in ("GET", "HEAD") else "push"
        if "/uploads/" in self.url_path:
            action = "push"
        return {
            f"{match[1]}:delete" if self.command == "DELETE" and action else f"{match[1]}:{action}"
        }

    def _token(self) -> bool:
        registry = self.registry
        if self.command == "POST":
            form = parse_qs(self.body().decode())
            if form.get("refresh_token") != ["identity-of-ada"]:
                return self.say_error(401, "UNAUTHORIZED")
            scopes = form.get("scope", [""])[0].split()
        else:
            if self.headers.get("Authorization") not in (None, _basic()):
                return self.say_error(401, "UNAUTHORIZED")
            scopes = [one for each in self.query.get("scope", []) for one in each.split()]
        allowed = set()
        for scope in scopes:
            _, name, actions = scope.split(":")  # "repository:a/b:pull,push"
            allowed |= {f"{name}:{action}" for action in actions.split(",")}
        token = f"token-{len(registry.seen)}-{time.monotonic_ns()}"
        registry.tokens[token] = (allowed, time.monotonic() + 300)
        value = {"token": token, "expires_in": registry.expires_in}
        return self.say(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    # Being a registry.

    def _answer(self) -> bool:
        path = self.url_path
        if path == "/token":
            return self._token()
        if path == "/v2/":
            return self.say(200, data=b"{}")
        for pattern, method in (
            (r"/v2/(?P<name>.+)/blobs/uploads/(?P<upload>[0-9a-z]*)", self._upload),
            (r"/v2/(?P<name>.+)/blobs/(?P<digest>[^/]+)", self._blob),
            (r"/v2/(?P<name>.+)/manifests/(?P<which>[^/]+)", self._manifest),
            (r"/v2/(?P<name>.+)/tags/list", self._tags),
            (r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]+)", self._referrers),
        ):
            if match := re.fullmatch(pattern, path):
                return method(**match.groupdict())
        return self.say_error(404, "NOT_FOUND")

    def _upload(self, name: str, upload: str) -> bool:
        registry = self.registry
        if self.command == "POST":
            mount, source = self.query.get("mount"), self.query.get("from")
            if registry.mounts and mount and source and (source[0], mount[0]) in registry.blobs:
                registry.blobs[name, mount[0]] = registry.blobs[source[0], mount[0]]
                return self.say(201, {"Docker-Content-Digest": mount[0]})
            upload = f"u{len(registry.seen)}"
            registry.uploads[upload] = bytearray()
            return self.say(202, {"Location": self._location(name, upload), "Range": "0-0"})
        if upload not in registry.uploads:
            return self.say_error(404, "BLOB_UPLOAD_UNKNOWN")
        if self.command == "DELETE":
            del registry.uploads[upload]
            return self.say(204)
        data = registry.uploads[upload]
        if self.command in ("PATCH", "PUT"):
            start = (self.headers.get("Content-Range") or str(len(data))).partition("-")[0]
            if int(start) != len(data):
                return self.say_error(416, "RANGE_INVALID")
            while self.left:
                data += self.some()
        if self.command == "PUT":
            digest = self.query["digest"][0]
            if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
                return self.say_error(400, "DIGEST_INVALID")
            registry.blobs[name, digest] = bytes(data)
            del registry.uploads[upload]
            return self.say(201, {"Docker-Content-Digest": digest})
        headers = {"Location": self._location(name, upload)}
        headers["Range"] = f"0-{max(0, len(data) - 1)}"
        return self.say(202 if self.command == "PATCH" else 204, headers)

    def _location(self, name: str, upload: str) -> str:
        path = f"/v2/{name}/blobs/uploads/{upload}?state=a%2Bb"
        if self.registry.location == "relative":
            return path
        if self.registry.location == "absolute":
            return f"http://{self.registry.host}{path}"
        return self.registry.location + path

    def _blob(self, name: str, digest: str) -> bool:
        data = self.registry.blobs.get((name, digest))
        if data is None:
            return self.say_error(404, "BLOB_UNKNOWN")
        if self.command == "DELETE":
            del self.registry.blobs[name, digest]
            return self.say(202)
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start and self.registry.ranges:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self.say(206, headers, data[first:])
        if self.command == "HEAD":
            return self.say(200, headers | {"Content-Length": str(len(data))})
        return self.say(200, headers, data)

    def _manifest(self, name: str, which: str) -> bool:
        registry = self.registry
        if self.command == "PUT":
            data = self.body()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            kind = self.headers.get("Content-Type") or ""
            value = json.loads(data)
            for blob in [value["config"], *value["layers"]] if "layers" in value else ():
                if (name, blob["digest"]) not in registry.blobs:
                    return self.say_error(404, "MANIFEST_BLOB_UNKNOWN")
            registry.manifests[name, digest] = (kind, data)
            if not which.startswith("sha256:"):
                registry.tags[name, which] = digest
            return self.say(201, {"Docker-Content-Digest": digest})
        digest = registry.tags.get((name, which), which)
        if (name, digest) not in registry.manifests:
            return self.say_error(404, "MANIFEST_UNKNOWN")
        kind, data = registry.manifests[name, digest]
        headers = {"Content-Type": kind, "Docker-Content-Digest": digest}
        if self.command == "HEAD":
            return self.say(200, headers | {"Content-Length": str(len(data))})
        return self.say(200, headers, data)

    def _tags(self, name: str) -> bool:
        tags = sorted(tag for owner, tag in self.registry.tags if owner == name)
        if not tags:
            return self.say_error(404, "NAME_UNKNOWN", "repository name not known to registry")
        last = self.query.get("last", [""])[0]
        tags = [tag for tag in tags if tag > last]
        most = min(3, int(self.query.get("n", ["3"])[0]))
        headers = {"Content-Type": "application/json"}
        if len(tags) > most:
            tags = tags[:most]
            headers["Link"] = f'</v2/{name}/tags/list?last={tags[-1]}&n={most}>; rel="next"'
        return self.say(200, headers, json.dumps({"name": name, "tags": tags}).encode())

    def _referrers(self, name: str, digest: str) -> bool:
        if not self.registry.referrers:
            return self.say_error(404, "NOT_FOUND")
        found = []
        for (owner, own), (kind, data) in self.registry.manifests.items():
            value = json.loads(data)
            if owner == name and (value.get("subject") or {}).get("digest") == digest:
                found.append(
                    {
                        "mediaType": kind,
                        "digest": own,
                        "size": len(data),
                        "artifactType": value.get("artifactType"),
                    }
                )
        index = {"schemaVersion": 2, "manifests": found}
        return self.say(200, {"Content-Type": "application/json"}, json.dumps(index).encode())


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show errors, but not that a client hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def scripted_registry(**settings: Any) -> Iterator[ScriptedRegistry]:
    """Run one on a free loopback port."""
    registry = ScriptedRegistry(**settings)
    handler = type("Bound", (Handler,), {"registry": registry})
    server = _Server(("127.0.0.1", 0), handler)
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Faults.


def answer(status: int, *, code: str = "UNKNOWN", message: str = "", **headers: str) -> Act:
    """Answer with an error."""
    return lambda handler: handler.say_error(status, code, message, **headers)


def hang_up(handler: Handler) -> bool:
    """Close the connection before a word is said."""
    return handler.hang_up()


def hang_up_after(handler: Handler) -> bool:
    """Do what was asked, and close the connection instead of saying so."""
    handler.say = lambda *_, **__: handler.hang_up()  # type: ignore[method-assign]
    return False


def take(amount: int, then: Act) -> Act:
    """Take so many bytes of an upload, then do something else."""

    def act(handler: Handler) -> bool:
        upload = handler.url_path.rpartition("/")[2]
        data = handler.registry.uploads[upload]
        while amount > len(data) and handler.left:
            data += handler.some()
        return then(handler)

    return act


def cut(amount: int) -> Act:
    """Announce the whole body, send so many bytes of it, and close the connection."""

    def act(handler: Handler) -> bool:
        real = handler.wfile.write

        def write(data: bytes) -> int:
            if data.startswith(b"HTTP/"):
                return real(data)
            real(data[:amount])
            handler.hang_up()
            return len(data)

        handler.wfile.write = write  # type: ignore[method-assign]
        return False

    return act


def send(data: bytes, status: int = 200, **headers: str) -> Act:
    """Answer with these bytes."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler: handler.say(status, named, data)


def wait(seconds: float) -> Act:
    """Be slow, then do what was asked."""

    def act(handler: Handler) -> bool:
        time.sleep(seconds)
        return False

    return act


def no_token(handler: Handler) -> bool:
    """Let every token given so far be worthless, then look at the request."""
    handler.registry.revoke_tokens()
    return False
