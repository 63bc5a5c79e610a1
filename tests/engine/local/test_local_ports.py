"""Another port for apps that say where they listen."""

from __future__ import annotations

import pytest

from dockyard.engine.local.ports import move_check, move_port

HEEDED = {
    "an option": (
        ["uvicorn", "serve:app", "--host", "0.0.0.0", "--port", "8000"],
        ["uvicorn", "serve:app", "--host", "0.0.0.0", "--port", "9000"],
    ),
    "an option with =": (["app", "--server.port=8000"], ["app", "--server.port=9000"]),
    "an address": (["gunicorn", "-b", "0.0.0.0:8000"], ["gunicorn", "-b", "0.0.0.0:9000"]),
    "a shell's line": (
        ["sh", "-c", "exec uvicorn a:b --port 8000"],
        ["sh", "-c", "exec uvicorn a:b --port 9000"],
    ),
}


@pytest.mark.parametrize(("argv", "moved"), HEEDED.values(), ids=HEEDED)
def test_an_option_of_the_start_command_is_moved(argv, moved):
    assert list(move_port(argv, {}, 8000, 9000).argv) == moved


@pytest.mark.parametrize("name", ["PORT", "GRADIO_SERVER_PORT"])
def test_a_variable_that_says_the_port_is_moved(name):
    found = move_port(["python", "app.py"], {name: "8000", "WORKERS": "8000"}, 8000, 9000)
    assert found.environment == {name: "9000", "WORKERS": "8000"}


def test_a_command_that_reads_port_is_given_one():
    found = move_port(["sh", "-c", "exec httpd -p ${PORT:-8000}"], {}, 8000, 9000)
    assert found.environment == {"PORT": "9000"}


@pytest.mark.parametrize(
    "argv",
    [["python", "app.py"], ["app", "--seed", "8000"], ["app", "--port", "18000"], ["sh", "8000"]],
    ids=["says nothing", "another option", "another port", "no option"],
)
def test_an_app_that_says_nothing_isnt_moved(argv):
    assert move_port(argv, {"PORT": "80", "SEED": "8000"}, 8000, 9000) is None


def test_the_health_check_asks_the_new_port():
    test = ["CMD", "python", "-c", "HTTPConnection('127.0.0.1', 8000, timeout=80005)"]
    assert move_check(test, 8000, 9000)[3] == "HTTPConnection('127.0.0.1', 9000, timeout=80005)"
