"""The examples: what they claim about themselves, and their `verify` from build to answer."""

from __future__ import annotations

import http.server
import json
import os
import runpy
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.docker import DockerEngine

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/verify"))
# A stack is more than an app: tests/stack runs it.
NAMES.remove("stack")
RUN_HERE = [name for name in NAMES if name != "cuda-torch"]
DIGIT_NAMES = [name for name in NAMES if name != "embeddings"]
PROOF = {"embeddings": "12 sentences have the vectors that the model gives itself"}

trial = runpy.run_path(str(EXAMPLES / "trial.py"))


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_HERE)
def test_container_answers_as_the_model_did_when_it_was_trained(
    name: str, docker_engine: DockerEngine
) -> None:
    before = {image.id for image in docker_engine.images()}
    environment = os.environ | {"DOCKYARD": str(Path(sys.executable).with_name("dockyard"))}
    try:
        done = subprocess.run(
            [EXAMPLES / name / "verify"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout
        assert PROOF.get(name, "held-out digits are right") in done.stdout
        left = [state.name for state in docker_engine.containers() if name in state.name]
        assert left == []
    finally:
        for image in docker_engine.images():
            if image.id not in before and any(name in tag for tag in image.references):
                docker_engine.remove_image(image.id, force=True)


def test_all_five_examples_are_there() -> None:
    assert NAMES == ["cuda-torch", "embeddings", "keras-digits", "onnx-digits", "torch-digits"]


@pytest.mark.parametrize("name", NAMES)
def test_example_says_what_it_is(name: str) -> None:
    assert (EXAMPLES / name / "README.md").read_text().startswith(f"# {name}\n")


def test_sentences_are_in_pairs_of_like_meaning() -> None:
    rows = json.loads((EXAMPLES / "embeddings" / "sentences.json").read_text())
    likes = {row["text"]: row["like"] for row in rows}
    assert len(likes) == 12
    assert all(likes[likes[text]] == text for text in likes)
    assert all(len(row["vector"]) == 384 for row in rows)


@pytest.mark.parametrize("name", DIGIT_NAMES)
def test_example_is_complete_and_small(name: str) -> None:
    folder = EXAMPLES / name
    assert os.access(folder / "verify", os.X_OK)
    (model,) = [path for path in folder.iterdir() if path.stem == "model"]
    assert 1_000 < model.stat().st_size < 2_000_000
    digits = trial["held_out_digits"](folder)
    assert len(digits) == 50
    assert {digit.label for digit in digits} == set(range(10))
    assert all(len(row) == 8 for digit in digits for row in digit.image)
    assert {ink for digit in digits for row in digit.image for ink in row} <= set(range(17))
    assert sum(digit.label == digit.answer for digit in digits) >= 45


def test_keras_example_holds_nothing_for_dockyard() -> None:
    files = {path.name for path in (EXAMPLES / "keras-digits").iterdir()}
    assert not files & {"dockyard.toml", "pyproject.toml", ".dockerignore", ".python-version"}
    assert "dockyard" not in (EXAMPLES / "keras-digits" / "app.py").read_text()


def test_cuda_example_serves_the_network_of_the_torch_example() -> None:
    cuda, torch = (EXAMPLES / name for name in ("cuda-torch", "torch-digits"))
    for file in ("network.py", "digits.json"):
        assert (cuda / file).read_bytes() == (torch / file).read_bytes(), file
    weights, program = zipfile.ZipFile(cuda / "model.pt"), zipfile.ZipFile(torch / "model.pt2")
    for number in range(6):
        alone = weights.read(f"model/data/{number}")
        assert alone == program.read(f"model/data/weights/weight_{number}"), number


@pytest.mark.parametrize("name", ["onnx-digits", "torch-digits"])
def test_a_served_example_has_no_server_code(name: str) -> None:
    code = {path.name for path in (EXAMPLES / name).glob("*.py")}
    assert code <= {"train.py", "network.py"}


def test_the_onnx_example_is_a_model_and_nothing_to_configure() -> None:
    files = {path.name for path in (EXAMPLES / "onnx-digits").iterdir() if path.is_file()}
    assert files == {"README.md", "digits.json", "model.onnx", "train.py", "verify"}


@pytest.fixture
def answers() -> list[int]:
    """What the server below says, digit by digit; a test may change it."""
    return [digit.answer for digit in trial["held_out_digits"](EXAMPLES / "onnx-digits")]


@pytest.fixture
def server(answers: list[int]) -> Iterator[object]:
    """A server that answers the digits in order, and refuses what is no picture with 400."""
    left = iter(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            picture = isinstance(body["image"], list)
            answer = {"digit": next(left), "probabilities": [0.1] * 10} if picture else {}
            data = json.dumps(answer).encode()
            self.send_response(200 if picture else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield trial["Server"](port=listener.server_port)
        listener.shutdown()
        thread.join()


def test_verify_accepts_the_answers_of_training(server: object) -> None:
    digits = trial["held_out_digits"](EXAMPLES / "onnx-digits")
    right = sum(digit.label == digit.answer for digit in digits)
    assert trial["check_answers"](server, digits).startswith(f"{right} of 50 ")


def test_verify_refuses_one_changed_answer(server: object, answers: list[int]) -> None:
    answers[17] = (answers[17] + 1) % 10
    digits = trial["held_out_digits"](EXAMPLES / "onnx-digits")
    with pytest.raises(SystemExit, match=f"digit 17: the container says {answers[17]}, "):
        trial["check_answers"](server, digits)
