"""A package index behind a password, on the loopback interface."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True)
class Request:
    path: str
    authorized: bool


class IndexServer:
    """Serves `root`/simple and `root`/files; notes each request."""

    def __init__(self, root: Path, *, user: str, password: str) -> None:
        self.secret = password
        self.userinfo = f"{quote(user, safe='')}:{quote(password, safe='')}"
        self.requests: list[Request] = []
        expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        noted = self.requests

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                authorized = self.headers.get("Authorization") == expected
                noted.append(Request(self.path, authorized))
                if authorized:
                    super().do_GET()
                    return
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def end_headers(self) -> None:
                # As indexes do: an answer may be kept, but must be asked for again.
                self.send_header("Cache-Control", "max-age=0")
                super().end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"
        self.url_with_credentials = self.url.replace("://", f"://{self.userinfo}@")

    def __enter__(self) -> IndexServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()
