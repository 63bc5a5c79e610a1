"""`dockyard up`, `down` and `stack` with a real engine, a real Compose and a real PostgreSQL."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stack_project import APP, CLASSIC, DOCKERFILE, ask, free_port, make_project

from dockyard.cli.main import run_command_line

pytestmark = [pytest.mark.docker, pytest.mark.network]
DOCKYARD = str(Path(sys.executable).with_name("dockyard"))


@pytest.fixture
def folder(tmp_path, compose_env, docker_engine):
    """A project under a name of its own; its stack and image are removed afterwards."""
    project = tmp_path / f"dockyard-test-{secrets.token_hex(4)}"
    project.mkdir()
    make_project(project)
    yield project
    if (project / ".dockyard").exists():
        run_command_line(["down", "-q", "-v", str(project)])
    for image in docker_engine.images():
        if any(project.name in name for name in image.references):
            docker_engine.remove_image(image.id, force=True)


def configure(folder, text, first=""):
    # An engine looks for the first time after a whole interval.
    quick = '[healthcheck]\ninterval = "1s"\n'
    (folder / "dockyard.toml").write_text(first + quick + text)


def states(capsys, folder):
    capsys.readouterr()
    assert run_command_line(["stack", "ps", "--json", "--folder", str(folder)]) == 0
    return {item["service"]: item for item in json.loads(capsys.readouterr().out)}


def in_database(compose, folder, query):
    files = ["--project-directory", folder, "-f", folder / ".dockyard/compose.yaml"]
    psql = [
        "exec",
        "-T",
        "db",
        "psql",
        "-h",
        "/var/run/postgresql",
        "-U",
        "app",
        "-At",
        "-c",
        query,
    ]
    done = subprocess.run([compose, *files, *psql], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_up_and_down_with_a_database_that_keeps_its_data(
    folder, postgres_image, compose_env, capsys, docker_engine
):
    port = free_port()
    configure(folder, f'[stack]\ndatabase = "{postgres_image}"\npublish = {port}\n')
    assert run_command_line(["up", "-q", "--wait", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"http://127.0.0.1:{port}" in said
    assert ask(port) == "one a model db"
    found = states(capsys, folder)
    assert {name: item["health"] for name, item in found.items()} == dict.fromkeys(
        ("db", "web"), "healthy"
    )
    assert found["db"]["urls"] == []

    # The password is in no environment, and the database takes it and no other.
    password = (folder / ".dockyard/secrets/db-password").read_text()
    for name in ("web", "db"):
        shown = subprocess.run(
            ["docker", "inspect", found[name]["name"]], capture_output=True, text=True, check=True
        )
        assert password not in shown.stdout
    in_database(compose_env, folder, "create table kept (x int); insert into kept values (7)")

    assert run_command_line(["down", "-q", str(folder)]) == 0
    assert states(capsys, folder) == {}
    assert run_command_line(["up", "-q", "--wait", "--no-build", str(folder)]) == 0
    assert in_database(compose_env, folder, "select x from kept") == "7"

    # Another password would lock us out; nothing is started, and the right one still counts.
    secret = folder / ".dockyard/secrets/db-password"
    secret.unlink()
    capsys.readouterr()
    assert run_command_line(["up", "-q", "-d", str(folder)]) == 1
    assert "has another password" in capsys.readouterr().err
    assert not secret.exists()
    secret.write_text(password)

    assert run_command_line(["stack", "restart", "web", "-q", "--folder", str(folder)]) == 0
    assert run_command_line(["down", "-q", "-v", str(folder)]) == 0
    volumes = [volume.name for volume in docker_engine.volumes(label=None)]
    assert not [name for name in volumes if name.startswith(folder.name)]


def test_the_classic_file_comes_up_as_it_is(folder, postgres_image, capsys):
    port = free_port()
    text = CLASSIC.format(port=port, image=postgres_image)
    file = folder / "docker-compose.yml"
    file.write_text(text)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    assert run_command_line(["up", "--wait", str(folder)]) == 0
    said = capsys.readouterr().err
    assert ask(port) == "one a model db"
    assert file.read_text() == text
    # The app could write into the mounted folder, as its owner.
    assert (folder / "logs/app.log").read_text() == "/\n"
    assert (folder / "logs/app.log").stat().st_uid == folder.stat().st_uid
    for line, what in (
        (1, "`version` is obsolete"),
        (6, "open to every machine"),
        (7, "hides what the image has"),
        (14, "DB_PASSWORD is in the file"),
        (15, "doesn't wait"),
        (17, "no health check"),
        (22, "POSTGRES_PASSWORD is in the file"),
    ):
        assert any(
            note.startswith(f"docker-compose.yml:{line}: ") and what in note
            for note in said.splitlines()
        ), (line, what, said)


def test_what_dockyard_cannot_build_the_engine_builds(folder, postgres_image, capsys):
    configure(folder, "")
    (folder / "Dockerfile").write_text(
        f'FROM {postgres_image}\nRUN echo "from the engine" > /made\n'
    )
    (folder / "compose.yaml").write_text(
        "services:\n  job:\n    build: .\n    command: [sleep, '1000']\n    init: true\n"
    )
    assert run_command_line(["up", "-d", str(folder)]) == 0
    said = capsys.readouterr().err
    assert f"job is built by the engine, because of Dockerfile:1: FROM {postgres_image}" in said
    made = subprocess.run(
        ["docker", "exec", f"{folder.name}-job-1", "cat", "/made"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == "from the engine\n"


def test_a_service_that_dies_is_named_with_its_last_lines(folder, capsys):
    (folder / "model.h5").unlink()
    configure(folder, f'[stack]\npublish = {free_port()}\nrestart = "no"\n')
    assert run_command_line(["up", "-q", "--wait", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "web-1 ended with exit code 1" in said
    assert "FileNotFoundError" in said
    assert "dockyard down" in said


def test_scales_a_service_and_gives_each_replica_a_port(folder, capsys):
    configure(folder, "[stack]\nreplicas = 2\npublish = 28080\n")
    assert run_command_line(["up", "-q", "--wait", "--json", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    ports = sorted(url for item in found for url in item["urls"])
    assert ports == ["http://127.0.0.1:28080", "http://127.0.0.1:28081"]
    assert ask(28080) == ask(28081) == "one a model no database"


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def answers(port, text):
    try:
        return ask(port) == text
    except OSError:
        return False


def test_watching_swaps_the_service_when_its_code_changes(folder, compose_env, tmp_path):
    port = free_port()
    configure(folder, f"[stack]\npublish = {port}\n")
    output = tmp_path / "said.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [DOCKYARD, "up", "--watch", folder], stdout=file, stderr=file, env=dict(os.environ)
        )
    try:
        wait_for(lambda: "Watching web" in output.read_text(), 120)
        assert ask(port) == "one a model no database"
        (folder / "app.py").write_text(APP.replace('"one"', '"two"'))
        wait_for(lambda: answers(port, "two a model no database"))
        # What can't be built leaves the running one alone.
        (folder / "app.py").write_text("def broken(:\n")
        wait_for(lambda: "web runs on as it was" in output.read_text())
        assert ask(port) == "two a model no database"
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 130
    assert "Swapped web" in output.read_text()
    assert "Stopped" in output.read_text()
    listed = subprocess.run(
        ["docker", "ps", "--filter", f"name={folder.name}", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == ""


LOGGING_APP = """\
import json
import os
from wsgiref.simple_server import make_server

from dockyard_serve.predictions import log_predictions

os.makedirs(os.environ["LOG_DIR"], exist_ok=True)


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"double": 2 * json.loads(body or b"{}").get("x", 0)}).encode()]


app = log_predictions(app, model="doubler")

if __name__ == "__main__":
    make_server("0.0.0.0", 8080, app).serve_forever()
"""


def test_two_lines_in_an_app_keep_its_predictions(folder, postgres_image, capsys):
    import urllib.request

    port = free_port()
    (folder / "app.py").write_text(LOGGING_APP)
    text = f'[stack]\ndatabase = "{postgres_image}"\npublish = {port}\n'
    configure(folder, text, first="ports = [8080]\n")
    assert run_command_line(["up", "-q", "--wait", str(folder)]) == 0
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        data=b'{"x": 4}',
        headers={"Content-Type": "application/json", "X-Request-Id": "mine"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.loads(answer.read()) == {"double": 8}

    def listed():
        capsys.readouterr()
        assert run_command_line(["predictions", "--json", str(folder)]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    wait_for(lambda: len(listed()) == 1)
    (record,) = listed()
    assert (record["request_id"], record["model"], record["outputs"]) == (
        "mine",
        "doubler",
        {"double": 8},
    )
    # Another service has no log, and says so.
    assert run_command_line(["predictions", "--service", "db", str(folder)]) == 1
    assert "keeps no predictions" in capsys.readouterr().err
