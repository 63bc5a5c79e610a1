"""Build an example, run it, ask it about digits it has never seen, and remove it again.

What the examples' `verify` and `scripts/demo` share. Standard library only, so that any
Python 3.10 or newer runs it. DOCKYARD names the command to test, `dockyard` by default.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Digit:
    """One held-out picture: 8 rows of 8 pixels of 0 to 16, what it shows, what the model said."""

    image: list[list[int]]
    label: int
    answer: int


def held_out_digits(folder: Path) -> list[Digit]:
    """The pictures that train.py left in digits.json."""
    return [Digit(**row) for row in json.loads((folder / "digits.json").read_text())]


def dockyard(*arguments: str | Path) -> str:
    """Run the command under test and return what it prints; leave if it fails."""
    command = [*shlex.split(os.environ.get("DOCKYARD", "dockyard")), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
        )
    except FileNotFoundError:
        fail(f"there is no command {command[0]!r}; set DOCKYARD to name one")
    if done.returncode:
        fail(f"{shlex.join(command)} exited with {done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Server:
    """An app that answers HTTP on this machine; field: what its model's input is called."""

    port: int
    field: str = "image"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON (or text) of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body and json.dumps(body), JSON_HEADERS)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text

    def classify(self, digit: Digit) -> tuple[int, float]:
        """The digit that the model sees in the picture, and how sure it is (0 to 1)."""
        status, answer = self.ask("POST", "/predict", {self.field: digit.image})
        if status != 200:
            fail(f"POST /predict answered {status}: {answer}")
        probabilities = answer["probabilities"]
        best = answer.get("digit", probabilities.index(max(probabilities)))
        return best, probabilities[best]


@contextlib.contextmanager
def running(folder: Path, *, port: int, field: str = "image") -> Iterator[Server]:
    """The example in a container, answering on a free port of this machine; removed afterwards.

    port: where the app listens inside the container; field: what its model's input is called.
    """
    name = f"dockyard-{folder.name}-{os.getpid()}"
    server = Server(port=free_port(), field=field)
    # A terminated test must not leave its container behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    published = f"127.0.0.1:{server.port}:{port}"
    command = [*shlex.split(os.environ.get("DOCKYARD", "dockyard")), "run", str(folder)]
    with tempfile.TemporaryFile() as output:
        # In the foreground, where stopping the command removes the container on any engine.
        process = subprocess.Popen(
            [*command, "--name", name, "--publish", published],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            wait_ready(process, output)
            yield server
        finally:
            process.terminate()
            process.wait()


def wait_ready(process: subprocess.Popen[bytes], output: IO[bytes], seconds: float = 600) -> None:
    """Wait until the command says that the app is ready; leave with its words if it isn't."""
    deadline = time.monotonic() + seconds
    while b"\nReady: " not in (said := b"\n" + os.pread(output.fileno(), 1 << 20, 0)):
        if process.poll() is not None or time.monotonic() > deadline:
            fail(f"the app didn't become ready:\n{said.decode(errors='replace')[-5000:]}")
        time.sleep(0.05)


def check_answers(server: Server, digits: list[Digit]) -> str:
    """Leave with a message unless the model answers as it did when it was trained, and well."""
    answers = [server.classify(digit)[0] for digit in digits]
    for number, (digit, answer) in enumerate(zip(digits, answers, strict=True)):
        if answer != digit.answer:
            fail(f"digit {number}: the container says {answer}, the model said {digit.answer}")
    right = sum(digit.label == answer for digit, answer in zip(digits, answers, strict=True))
    if right < 0.9 * len(digits):
        fail(f"only {right} of {len(digits)} held-out digits are right")
    status, _ = server.ask("POST", "/predict", {server.field: "a photo of a 7"})
    if not 400 <= status < 500:
        fail(f"a picture that is none was answered with {status}, not 4xx")
    return f"{right} of {len(digits)} held-out digits are right, as when the model was trained"


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def fail(message: str) -> None:
    """Leave with a message."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")
