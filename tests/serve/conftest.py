"""The server with a predictor or a model, as `python -m dockyard_serve` starts it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Running:
    """A server on this machine; log: what it wrote."""

    port: int
    log: Path

    def ask(
        self, path: str = "/predict", body: Any = None, *, method: str = "POST", **headers: str
    ) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer; a body that isn't bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if not isinstance(body, bytes | None):
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **sent})
            response = connection.getresponse()
            return response.status, response.headers.get_content_type(), response.read()
        finally:
            connection.close()

    def predict(self, **values: Any) -> Any:
        """The result for these parameters; fails unless it is answered with 200."""
        status, _, body = self.ask(body=values)
        assert status == 200, body
        return json.loads(body)

    def refusal(self, body: Any, **headers: str) -> str:
        """The message of an answer with 4xx."""
        status, _, answer = self.ask(body=body, **headers)
        assert 400 <= status < 500, (status, answer)
        return json.loads(answer)["error"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts servers, of a file or of a module's text; they end with the module's tests."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(target: str, code: str = "", *options: str) -> Running:
        folder = tmp_path_factory.mktemp("served")
        if code:
            (folder / f"{target.partition(':')[0]}.py").write_text(textwrap.dedent(code))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        command = [sys.executable, "-m", "dockyard_serve", target, "--host", "127.0.0.1"]
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port), *options],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(SOURCE)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        processes.append(process)
        running = Running(port, log)
        deadline = time.monotonic() + 60
        while True:
            try:
                if running.ask("/healthz", method="GET")[0] == 200:
                    return running
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server doesn't serve: {log.read_text()}")
            time.sleep(0.05)

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        assert process.wait(30) == 0
