"""A package index over loopback for a folder of wheels, which counts the bytes that it sends.

It speaks PEP 691 (JSON) with sizes, hashes and PEP 658 metadata, as PyPI does, so that a resolver
reads no wheel to resolve; and it lists the folder for pip's --find-links.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_JSON = "application/vnd.pypi.simple.v1+json"


class WheelIndex:
    """Serves `folder`; `sent` counts the bytes of wheels since it was set to 0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent = 0
        self._lock = threading.Lock()
        self._metadata: dict[str, bytes] = {}
        self._projects: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(folder.glob("*.whl")):
            self._add(path)
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.answer(self)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> WheelIndex:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _add(self, path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with zipfile.ZipFile(path) as wheel:
            inside = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = wheel.read(inside)
        self._metadata[path.name] = metadata
        name = re.sub(r"[-_.]+", "-", path.name.partition("-")[0]).lower()
        self._projects.setdefault(name, []).append(
            {
                "filename": path.name,
                "url": f"../../files/{path.name}",
                "hashes": {"sha256": digest},
                "size": path.stat().st_size,
                "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()},
            }
        )

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one GET or HEAD."""
        parts = unquote(request.path.partition("?")[0]).strip("/").split("/")
        match parts:
            case ["simple", name] if name in self._projects:
                value = {
                    "meta": {"api-version": "1.1"},
                    "name": name,
                    "versions": sorted({f["filename"].split("-")[1] for f in self._projects[name]}),
                    "files": self._projects[name],
                }
                self._send(request, json.dumps(value).encode(), _JSON)
            case ["files"]:
                names = [f["filename"] for files in self._projects.values() for f in files]
                page = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
                self._send(request, page.encode(), "text/html")
            case ["files", name] if name.removesuffix(".metadata") in self._metadata:
                if name.endswith(".metadata"):
                    data = self._metadata[name.removesuffix(".metadata")]
                    self._send(request, data, "text/plain")
                else:
                    self._send_file(request, self.folder / name)
            case _:
                request.send_error(404)

    def _send(self, request: http.server.BaseHTTPRequestHandler, data: bytes, kind: str) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data)

    def _send_file(self, request: http.server.BaseHTTPRequestHandler, path: Path) -> None:
        size = path.stat().st_size
        start = 0
        if found := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            start = int(found[1])
        request.send_response(206 if start else 200)
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("Content-Length", str(size - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        request.end_headers()
        if request.command != "GET":
            return
        with path.open("rb") as file:
            file.seek(start)
            while data := file.read(1 << 20):
                request.wfile.write(data)
                with self._lock:
                    self.sent += len(data)
