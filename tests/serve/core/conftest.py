"""Models made with onnx, and servers of them as processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ONNX_TYPES = {
    "BOOL": "BOOL",
    "UINT8": "UINT8",
    "UINT16": "UINT16",
    "UINT32": "UINT32",
    "UINT64": "UINT64",
    "INT8": "INT8",
    "INT16": "INT16",
    "INT32": "INT32",
    "INT64": "INT64",
    "FP16": "FLOAT16",
    "FP32": "FLOAT",
    "FP64": "DOUBLE",
    "BF16": "BFLOAT16",
    "BYTES": "STRING",
}


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any) -> Path:
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opset = [helper.make_opsetid("", 17)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def info(name: str, datatype: str, shape: list[Any]) -> Any:
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, ONNX_TYPES[datatype])
    return helper.make_tensor_value_info(name, kind, shape)


def save_scale(path: Path, factor: float) -> Path:
    """`y = x * factor`, rows of 3 numbers: a version that can be told from its answers."""
    from onnx import helper, numpy_helper

    return save(
        path,
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [info("x", "FP32", ["batch", 3])],
        [info("y", "FP32", ["batch", 3])],
        [numpy_helper.from_array(np.array(factor, np.float32), "factor")],
    )


def save_identity(path: Path, datatype: str) -> Path:
    """`y = x` of any datatype, with a free batch and a free axis."""
    from onnx import helper

    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [info("x", datatype, ["batch", "n"])],
        [info("y", datatype, ["batch", "n"])],
        [],
    )


SLEEPER = '''
import os
import time


class Sleeper:
    """Sleeps as long as it is told."""

    def predict(self, seconds: float = 0.0) -> float:
        time.sleep(seconds)
        return seconds


class Crasher:
    """Ends its process when told to, or raises."""

    def predict(self, how: str) -> str:
        if how == "exit":
            os._exit(7)
        if how == "raise":
            raise ValueError("a secret of the server")
        return how
'''


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    env: dict[str, str] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body (read as JSON if it is), and headers, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, sent, headers or {})
            answer = connection.getresponse()
            raw = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            is_json = found.get("content-type", "").startswith("application/json")
            return answer.status, json.loads(raw) if is_json and raw else raw, found
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self.request("POST", path, body, headers)

    def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """What comes back for bytes, until the server closes."""
        with self.connect(timeout=timeout) as sock:
            sock.sendall(data)
            pieces = []
            while piece := sock.recv(65536):
                pieces.append(piece)
            return b"".join(pieces)

    def connect(self, *, timeout: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def stop(self, *, within: float = 20.0) -> int:
        """SIGTERM: the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def children(self) -> list[int]:
        """The pids of its workers."""
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def wait_ready(self, *, within: float = 30.0) -> None:
        until = time.monotonic() + within
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.get("/v2/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready in {within} s: {self.log.read_text()}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts `python -m dockyard_serve MODEL …` and waits for it; stops all at the module's end."""
    started: list[Server] = []

    def start(model: Path | str, *options: str, wait: bool = True, **env: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        (folder / "slow.py").write_text(SLEEPER)
        port = free_port()
        log = folder / "log"
        command = [sys.executable, "-m", "dockyard_serve", str(model), "--host", "127.0.0.1"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port), *options],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
            )
        server = Server(process, port, log)
        started.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(10)


@pytest.fixture(scope="module")
def scale_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y = 2 x` for rows of 3 numbers."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return save_scale(tmp_path_factory.mktemp("model") / "scale.onnx", 2.0)


@pytest.fixture(scope="session")
def make_scale() -> Callable[[Path, float], Path]:
    return save_scale


@pytest.fixture(scope="session")
def make_identity() -> Callable[[Path, str], Path]:
    return save_identity
