"""`dockyard run`, against the engine in memory; signals against Docker, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from dockyard.cli.main import run_command_line

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from small_image import busybox, in_chunks, make_archive, make_layer

from dockyard.engine.memory import MemoryEngine


def greet(process):
    process.write(f"hello {process.environment.get('WHO', 'nobody')}\n")
    process.write(f"{' '.join(process.command)}\n", "stderr")
    return 0


def break_down(process):
    process.write("no model here\n", "stderr")
    return 7


def serve(process):
    listener = process.listen(8080)
    process.write("serving\n")
    process.sleep()
    listener.close()
    return 0


CONFIG = {"Cmd": ["/bin/greet"], "ExposedPorts": {"8080/tcp": {}}}


@pytest.fixture
def engine(monkeypatch):
    engine = MemoryEngine({"/bin/greet": greet, "/bin/break": break_down, "/bin/serve": serve})
    engine.load(in_chunks(make_archive("tiny:1", [make_layer({"a": b"1"})], CONFIG)))
    monkeypatch.setattr("dockyard.engine.connect.find_engine", lambda: engine)
    monkeypatch.setattr("dockyard.cli.run._PATIENCE", 5.0)
    return engine


def test_shows_output_gives_the_exit_code_and_removes_the_container(engine, capfdbinary):
    code = run_command_line(["run", "-q", "tiny:1", "-e", "WHO=you", "--", "/bin/greet", "-v", "x"])
    assert code == 0
    assert capfdbinary.readouterr() == (b"hello you\n", b"/bin/greet -v x\n")
    assert engine.containers() == ()


def test_a_container_that_breaks_down_gives_its_exit_code_and_says_so(engine, capfd):
    assert run_command_line(["run", "tiny:1", "--", "/bin/break"]) == 7
    err = capfd.readouterr().err
    assert err.count("no model here") == 1
    assert re.search(r"error: the container tiny-\w+ stopped with exit code 7 before", err)


def test_no_rm_keeps_the_container(engine):
    assert run_command_line(["run", "--no-rm", "--name", "kept", "tiny:1"]) == 0
    assert engine.container("kept").exit_code == 0


def test_detached_prints_the_name_when_the_port_is_listened_on(engine, capfd):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["-d", "--name", "server", "-p", f"127.0.0.1:{port}:8080"]
    assert run_command_line(["run", *flags, "tiny:1", "--", "/bin/serve"]) == 0
    out, err = capfd.readouterr()
    assert out == "server\n"
    assert f"Ready: http://127.0.0.1:{port} (listening after" in err
    assert engine.container("server").status == "running"
    engine.remove("server", force=True)


def test_detached_json_says_where_it_answers(engine, capfd):
    assert run_command_line(["run", "-d", "--json", "tiny:1", "--", "/bin/serve"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["state"] == "listening"
    assert said["ports"][0]["container"] == 8080
    assert said["urls"] == [f"http://127.0.0.1:{said['ports'][0]['host']}"]
    engine.remove(said["id"], force=True)


def test_exposed_ports_are_published_elsewhere_when_taken(engine, capfd):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = {**CONFIG, "ExposedPorts": {f"{port}/tcp": {}}, "Cmd": ["/bin/greet"]}
        engine.load(in_chunks(make_archive("taken:1", [make_layer({"a": b"1"})], config)))
        assert run_command_line(["run", "taken:1"]) == 0
    assert f"Port {port} is taken" in capfd.readouterr().err


@pytest.mark.parametrize("remove", [False, True])
def test_detached_death_is_an_error_with_the_last_lines(engine, capfd, remove):
    flags = ["--rm"] if remove else []
    code = run_command_line(["run", "-d", *flags, "--name", "dead", "tiny:1", "--", "/bin/break"])
    assert code == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "Its last lines:\n    no model here" in err
    assert ("dockyard rm -f dead" in err) is not remove
    assert (engine.container("dead") is None) is remove


def test_detached_that_is_never_ready_is_an_error(engine, capfd):
    flags = ["--timeout", "0.2", "--name", "slow", "-p", "8080"]
    engine._programs["/bin/serve"] = lambda process: process.sleep() or 0
    assert run_command_line(["run", "-d", *flags, "tiny:1", "--", "/bin/serve"]) == 1
    assert "wasn't ready after 0.2 s" in capfd.readouterr().err
    engine.remove("slow", force=True)


BAD_LINES = {
    "an unknown option": (["--frobnicate", "tiny:1"], 2, "No such option"),
    "a command without --": (["tiny:1", "/bin/greet"], 2, "unexpected extra argument"),
    "a port that is none": (["-p", "eighty", "tiny:1"], 2, "'eighty'"),
    "a volume without a path": (["-v", "data:here", "tiny:1"], 2, "no absolute path"),
    "an environment file that is missing": (["--env-file", "/gone", "tiny:1"], 2, "can't be read"),
    "GPUs that are none": (["--gpus", "two", "tiny:1"], 2, "'two'"),
    "a size that is none": (["-m", "lots", "tiny:1"], 2, "'lots'"),
    "a name that can't be one": (["--name", "a b", "tiny:1"], 2, "'a b'"),
    "json in the foreground": (["--json", "tiny:1"], 2, "--json needs -d"),
    "-p and --no-publish": (["-p", "80", "--no-publish", "tiny:1"], 2, "exclude each other"),
    "an image that isn't here": (["nothing:1"], 1, "neither an image nor a folder"),
    "a folder that isn't here": (["./nothing"], 2, "there is no folder ./nothing"),
    "GPUs where there are none": (["--gpus", "all", "tiny:1"], 1, "no NVIDIA driver found"),
    "waiting for nothing": (["--wait", "tiny:1"], 2, "--wait waits for GPUs"),
    "memory of all GPUs": (["--gpus", "all", "--gpu-memory", "9g", "tiny:1"], 2, "to choose"),
}


@pytest.mark.parametrize(("line", "code", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_refuses(engine, capfd, line, code, message):
    assert run_command_line(["run", *line]) == code
    assert message in capfd.readouterr().err
    assert engine.containers() == ()


# With Docker, in a process of its own


@pytest.fixture(scope="module")
def docker_image(docker_engine, session_label):
    name, _, value = session_label.partition("=")
    scripts = {
        "serve": "echo serving; exec httpd -f -p 8080 -h /",
        "polite": "trap 'echo bye; exit 4' INT TERM; echo waiting; while :; do sleep 0.05; done",
        "stubborn": "trap '' INT TERM; echo waiting; while :; do sleep 0.05; done",
    }
    files = {"bin/busybox": busybox()}
    files |= {f"bin/{tool}": "busybox" for tool in ("sh", "sleep", "httpd")}
    files |= {f"bin/{script}": f"#!/bin/sh\n{text}\n".encode() for script, text in scripts.items()}
    config = {"Cmd": ["/bin/serve"], "ExposedPorts": {"8080/tcp": {}}, "Labels": {name: value}}
    reference = f"dockyard-test-run-{os.urandom(4).hex()}:1"
    return docker_engine.load(in_chunks(make_archive(reference, [make_layer(files)], config)))[0]


@pytest.fixture
def started(docker_image, session_label):
    processes = []

    def start(*args):
        command = [sys.executable, "-m", "dockyard", "run", "-l", session_label, *args]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 4), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_is_passed_on_and_the_container_removed(
    started, docker_engine, docker_image, sent, code
):
    name = f"dockyard-test-{os.urandom(4).hex()}"
    process = started("--name", name, "--no-publish", docker_image, "--", "/bin/polite")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "bye\n"), err
    assert "Traceback" not in err
    assert docker_engine.container(name) is None


@pytest.mark.docker
def test_a_second_ctrl_c_kills(started, docker_engine, docker_image):
    name = f"dockyard-test-{os.urandom(4).hex()}"
    process = started("--name", name, "--no-publish", docker_image, "--", "/bin/stubborn")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    assert "Stopping" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 137
    assert docker_engine.container(name) is None


@pytest.mark.docker
def test_a_server_answers_where_ready_says(started, docker_image):
    process = started(docker_image)
    assert process.stdout.readline() == "serving\n"
    lines = [process.stderr.readline()]
    while "Ready" not in lines[-1]:
        assert lines[-1], lines
        lines.append(process.stderr.readline())
    url = re.search(r"Ready: (http://127\.0\.0\.1:\d+) \(listening after", lines[-1])[1]
    with urllib.request.urlopen(url + "/bin/serve", timeout=5) as answer:
        assert b"httpd" in answer.read()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.docker
def test_a_reader_that_goes_away_stops_the_container(started, docker_engine, docker_image):
    name = f"dockyard-test-{os.urandom(4).hex()}"
    talk = "while :; do echo more; sleep 0.02; done"
    process = started("--name", name, "--no-publish", docker_image, "--", "/bin/sh", "-c", talk)
    assert process.stdout.readline() == "more\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert docker_engine.container(name) is None
    assert "Traceback" not in process.stderr.read()
