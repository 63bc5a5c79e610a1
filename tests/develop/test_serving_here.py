"""`dockyard serve`: what it is asked for, where it runs, and that a change starts it anew."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dockyard.develop.target import read_target
from dockyard.develop.watch import changed, look_at
from dockyard.errors import DockyardError

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = EXAMPLES / "onnx-digits" / "model.onnx"
PREDICTOR = """\
    class Predictor:
        def predict(self, x: float) -> float:
            return 2 * x
    """


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def test_a_model_file_needs_its_runtime():
    found = read_target(str(MODEL))
    assert found.target == str(MODEL)
    assert found.requirements == ("onnxruntime>=1.18",)
    assert found.modules == ("onnxruntime",)


def test_a_folder_of_models_is_served_whole(tmp_path):
    for version in ("1", "2"):
        (tmp_path / "models" / "digits" / version).mkdir(parents=True)
        shutil.copy(MODEL, tmp_path / "models" / "digits" / version)
    found = read_target("models")
    assert (found.target, found.requirements) == (str(tmp_path / "models"), ("onnxruntime>=1.18",))


def test_a_class_brings_what_its_folder_depends_on(tmp_path):
    write(tmp_path / "predictor.py", PREDICTOR)
    write(tmp_path / "requirements.txt", "numpy\n")
    found = read_target("predictor:Predictor")
    assert found.files == (tmp_path / "requirements.txt",)
    assert "pydantic" in found.modules


def test_a_class_is_named_by_its_file_too(tmp_path):
    write(tmp_path / "inner" / "predictor.py", PREDICTOR)
    found = read_target("inner/predictor.py:Predictor")
    assert (found.target, found.folder) == ("predictor:Predictor", tmp_path / "inner")


def test_a_project_is_served_with_its_settings(tmp_path):
    shutil.copy(MODEL, tmp_path)
    write(tmp_path / "dockyard.toml", '[serve]\nname = "digits"\nmax-batch-size = 8\n')
    found = read_target(".")
    assert found.target == str(tmp_path / "model.onnx")
    assert found.options == ("--name", "digits", "--max-batch-size", "8")


# What it is, the argument, files, what is said.
WRONG = [
    ("nothing", "nothing", {}, "is nothing that can be served"),
    ("a module alone", "a.py", {"a.py": "x = 1"}, "say which class of it"),
    ("no file", "a.py:B", {}, "there is no file a.py"),
    ("no model", "a.txt", {"a.txt": "x"}, "isn't a model that can be served"),
    (
        "an app",
        ".",
        {"app.py": "from flask import Flask\napp = Flask('a')\n", "requirements.txt": "flask\n"},
        "starts a program of its own",
    ),
]


@pytest.mark.parametrize(("what", "argument", "files", "said"), WRONG, ids=[r[0] for r in WRONG])
def test_says_what_cannot_be_served_here(tmp_path, what, argument, files, said):
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(DockyardError, match=said):
        read_target(argument)


def test_sees_changes_of_code_and_models_and_of_nothing_else(tmp_path):
    write(tmp_path / "a.py", "x = 1")
    model = tmp_path / "m.onnx"
    model.write_bytes(b"1")
    before = look_at(tmp_path, [model])
    write(tmp_path / ".venv" / "b.py", "x")
    write(tmp_path / "__pycache__" / "a.pyc", "x")
    write(tmp_path / "output.log", "x")
    assert changed(before, look_at(tmp_path, [model])) is None
    model.write_bytes(b"22")
    assert changed(before, look_at(tmp_path, [model])) == str(model)
    before = look_at(tmp_path, [model])
    write(tmp_path / "new.py", "x")
    assert changed(before, look_at(tmp_path, [model])) == str(tmp_path / "new.py")
    (tmp_path / "a.py").unlink()
    write(tmp_path / "new.py", "x")
    assert changed(before, look_at(tmp_path, [model])) == str(tmp_path / "a.py")


def ask(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/predict", json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_for(port, body, answer):
    deadline = time.monotonic() + 60
    found = None
    while found != answer:
        assert time.monotonic() < deadline, f"answered {found}, not {answer}"
        time.sleep(0.1)
        try:
            found = ask(port, body)
        except OSError as error:
            found = error


def test_a_change_is_served_and_a_mistake_is_waited_out(tmp_path):
    code = tmp_path / "double.py"
    write(code, PREDICTOR)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = tmp_path / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dockyard", "serve", "double:Predictor", "--port", str(port)],
            env=os.environ | {"VIRTUAL_ENV": sys.prefix},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(port, {"x": 2}, (200, b"4.0"))
        code.write_text("import nothing_of_this_name\n")
        deadline = time.monotonic() + 60
        while "the server ended with 1" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        write(code, PREDICTOR.replace("2 * x", "3 * x"))
        wait_for(port, {"x": 2}, (200, b"6.0"))
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    said = log.read_text()
    assert f"Serving double:Predictor at http://127.0.0.1:{port}" in said
    assert "double.py changed: starting again" in said
    assert "there is no module nothing_of_this_name" in said
    with pytest.raises(ConnectionRefusedError):
        ask(port, {"x": 2})
