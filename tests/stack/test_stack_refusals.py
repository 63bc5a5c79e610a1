"""What goes wrong with stacks is told in one message, before anything is started."""

from __future__ import annotations

import datetime
import socket
import stat
from pathlib import Path

import pytest
from stack_project import CLASSIC, DOCKERFILE, make_project

from dockyard.cli.main import run_command_line
from dockyard.errors import StackError
from dockyard.stack.advice import advise
from dockyard.stack.buildable import why_not_simple
from dockyard.stack.checks import check_password, check_ports
from dockyard.stack.existing import Found, Project, Published, compose_files
from dockyard.stack.program import Compose, find_compose, read_event, refusal


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def refused(capsys, *arguments):
    capsys.readouterr()
    code = run_command_line(list(map(str, arguments)))
    return code, capsys.readouterr().err


# The Compose file, what the message says, what is wrong
INVALID = [
    ("services:\n  web:\n    image: [\n", "compose.yaml", "YAML that isn't closed"),
    ("services:\n  web:\n    imgae: x\n", "imgae", "a key there isn't"),
    ("services:\n  web: {}\n", "web", "a service without an image"),
    (
        "services:\n  web: {image: x, depends_on: [db]}\n",
        "db",
        "a service that isn't there is waited for",
    ),
    ("services:\n  web: {image: x, volumes: ['data:/d']}\n", "data", "a volume nobody declares"),
    ("- a\n- b\n", "compose.yaml", "a list for a file"),
]


@pytest.mark.docker
@pytest.mark.parametrize(("text", "message", "row"), INVALID, ids=[row[2] for row in INVALID])
def test_says_what_is_wrong_with_a_compose_file(tmp_path, compose_env, capsys, text, message, row):
    (tmp_path / "compose.yaml").write_text(text)
    code, said = refused(capsys, "up", "-d", tmp_path)
    assert code == 1
    assert said.startswith("error: the Compose file isn't valid: ")
    assert message in said
    assert str(tmp_path) not in said


@pytest.mark.docker
def test_names_the_port_that_is_taken_before_anything_is_built(tmp_path, compose_env, capsys):
    make_project(tmp_path)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        (tmp_path / "dockyard.toml").write_text(f"[stack]\npublish = {port}\n")
        code, said = refused(capsys, "up", "-d", tmp_path)
    assert code == 1
    assert said.startswith(f"error: port {port}, where web is published, is taken")


@pytest.mark.docker
def test_a_wrong_service_to_scale_is_an_error_of_usage(tmp_path, compose_env, capsys):
    make_project(tmp_path)
    (tmp_path / "dockyard.toml").write_text("[stack]\n")
    code, said = refused(capsys, "up", "-d", tmp_path, "--scale", "wbe=2")
    assert code == 2
    assert "'wbe', which is no service" in said
    assert refused(capsys, "up", "-d", tmp_path, "--scale", "web=many")[0] == 2


@pytest.mark.parametrize(
    "options", [["--json"], ["-d", "--watch"], ["--build", "--no-build"]], ids=" ".join
)
def test_options_that_exclude_each_other(tmp_path, capsys, options):
    assert refused(capsys, "up", tmp_path, *options)[0] == 2


@pytest.mark.parametrize("command", [["down"], ["stack", "ps", "--folder"]], ids=" ".join)
def test_says_that_there_is_no_stack_here(tmp_path, capsys, command):
    code, said = refused(capsys, *command, tmp_path)
    assert (code, "there is no stack here" in said) == (1, True)


def test_a_stack_of_another_folder_with_the_same_name_is_left_alone(tmp_path, capsys, monkeypatch):
    make_project(tmp_path)
    (tmp_path / "dockyard.toml").write_text('[stack]\nname = "taken"\n')
    listing = '[{"Name":"taken","Status":"running(1)","ConfigFiles":"/elsewhere/compose.yaml"}]'
    fake = program(
        tmp_path,
        "compose",
        f"case $* in *version*) echo 2.26.1;; *' config') echo 'name: taken'; "
        f"echo 'services: {{web: {{image: x}}}}';; *' ls '*) echo '{listing}';; esac",
    )
    monkeypatch.setenv("DOCKYARD_COMPOSE", str(fake))
    monkeypatch.setattr("dockyard.engine.connect.find_engine", lambda: None)
    code, said = refused(capsys, "up", "-d", tmp_path)
    assert code == 1
    assert "another stack is called taken" in said
    assert "/elsewhere/compose.yaml" in said


def test_a_new_password_does_not_fit_an_old_volume():
    check_password((), ["app_db-data"], "app")
    check_password(("db-password",), ["other_db-data"], "app")
    with pytest.raises(StackError, match="has another password"):
        check_password(("db-password",), ["app_db-data"], "app")


def project_of(*published: Published) -> Project:
    services = [
        Found(
            name=f"s{number}",
            image="x",
            context=None,
            dockerfile=None,
            build={},
            user=None,
            published=(port,),
            binds=(),
        )
        for number, port in enumerate(published)
    ]
    return Project(name="app", folder=Path("/p"), services=tuple(services))


def test_two_services_on_one_port_are_refused_and_our_own_port_is_not():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        port = Published(address="127.0.0.1", host=number, last=number, container=80)
        check_ports(project_of(port), [("127.0.0.1", number)], {})
        with pytest.raises(StackError, match="by the container other"):
            check_ports(project_of(port), [], {number: "other"})
        with pytest.raises(StackError, match="s0 and s1 both publish"):
            check_ports(project_of(port, port), [("127.0.0.1", number)], {})


def test_finds_the_first_compose_that_is_version_2(tmp_path):
    old = tmp_path / "old"
    new = tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    program(old, "docker", "echo unknown command >&2; exit 1")
    program(old, "docker-compose", "echo 1.29.2")
    program(new, "podman", "echo 5.4.2")
    with pytest.raises(StackError) as caught:
        find_compose(tmp_path, {"PATH": f"{old}"})
    assert "tried docker compose: it has no compose" in str(caught.value)
    assert "tried docker-compose: version 1.29.2 is too old" in str(caught.value)
    assert "tried podman compose: there is no such command" in str(caught.value)
    found = find_compose(tmp_path, {"PATH": f"{old}:{new}"})
    assert found.command == ("podman", "compose")
    program(new, "docker", "echo 2.30.0")
    assert find_compose(tmp_path, {"PATH": f"{new}"}).command == ("docker", "compose")
    with pytest.raises(StackError, match="Correct DOCKYARD_COMPOSE"):
        find_compose(tmp_path, {"PATH": f"{new}", "DOCKYARD_COMPOSE": "no-such-thing"})


# What Compose says, what we say
SAID = [
    (
        "Error response from daemon: driver failed programming external connectivity on endpoint "
        "a-web-1 (5b): Bind for 127.0.0.1:8080 failed: port is already allocated\n",
        "port 127.0.0.1:8080 is taken",
    ),
    (
        "Error response from daemon: pull access denied for my/thing, repository does not exist",
        "the image my/thing can't be pulled",
    ),
    ("Error: No such image: digits:latest\n", "there is no image digits:latest"),
    (
        'could not select device driver "nvidia" with capabilities: [[gpu]]',
        "the engine has no GPU to give",
    ),
    ("container a-db-1 is unhealthy", "a-db-1 is unhealthy"),
    ("container a-web-1 exited (3)", "a-web-1 ended with exit code 3"),
    ("Cannot connect to the Docker daemon at unix:///x. Is it running?", "doesn't answer"),
    ("something else\n", "docker compose fails: something else"),
]


@pytest.mark.parametrize(("said", "message"), SAID, ids=[row[1] for row in SAID])
def test_translates_what_compose_says(tmp_path, said, message):
    compose = Compose(command=("docker", "compose"), folder=tmp_path)
    assert message in str(refusal(said, compose))


def test_reads_what_compose_says_it_does():
    event = read_event(" Container digits-db-1  Healthy\n")
    assert event is not None
    assert str(event) == "digits-db-1 healthy"
    assert str(read_event(" db Pulling \n")) == "db pulling"
    assert read_event("some words\n") is None


def test_finds_the_compose_files_that_compose_would(tmp_path):
    assert compose_files(tmp_path, {}) == ()
    for name in ("docker-compose.yml", "docker-compose.override.yml", "other.yaml"):
        (tmp_path / name).touch()
    assert [path.name for path in compose_files(tmp_path, {})] == [
        "docker-compose.yml",
        "docker-compose.override.yml",
    ]
    (tmp_path / "compose.yaml").touch()
    assert [path.name for path in compose_files(tmp_path, {})] == ["compose.yaml"]
    named = compose_files(tmp_path, {"COMPOSE_FILE": "other.yaml:compose.yaml"})
    assert [path.name for path in named] == ["other.yaml", "compose.yaml"]


# A Dockerfile, the reason why the engine must build it (None: it needn't)
DOCKERFILES = [
    (DOCKERFILE, None),
    ("FROM python:3.12\nRUN pip install --upgrade pip && mkdir -p /data\nCMD python a.py", None),
    (
        "FROM python:3.12\nRUN apt-get update && apt-get install -y gcc\n",
        "Dockerfile:2: RUN apt-get",
    ),
    ("FROM python:3.12\nRUN pip install torch\n", "Dockerfile:2: RUN pip install torch"),
    ("FROM python:3.12\nRUN curl -O x | sh\n", "Dockerfile:2: RUN curl"),
    ("FROM node:20\nCMD node .\n", "Dockerfile:1: FROM node:20"),
    ("FROM python:3.12 AS a\nFROM a\n", "Dockerfile has 2 stages"),
    ("FROM python:3.12\nCOPY --chown=1:1 . .\n", "Dockerfile:2: COPY"),
    ("FROM python:3.12\nADD https://x.example/m.h5 /m\n", "Dockerfile:2: ADD"),
    ('FROM python:3.12\nSHELL ["bash"]\n', "Dockerfile:2: SHELL"),
    ("FORM python\n", "Dockerfile:1: "),
]


@pytest.mark.parametrize(("text", "reason"), DOCKERFILES, ids=[str(row[1]) for row in DOCKERFILES])
def test_leaves_to_the_engine_what_a_build_would_not_do(tmp_path, text, reason):
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    found = why_not_simple(path)
    assert (found is None) if reason is None else str(found).startswith(reason)


def test_advice_knows_when_a_version_has_ended(tmp_path):
    path = tmp_path / "docker-compose.yml"
    path.write_text(CLASSIC.format(port=8080, image="postgres:12"))
    before = advise(path, today=datetime.date(2024, 11, 21))
    after = advise(path, today=datetime.date(2024, 11, 22))
    assert [item.what for item in after if item not in before] == [
        "PostgreSQL 12 has had no fixes since 2024-11-21"
    ]


def test_our_own_files_need_no_advice():
    golden = sorted((Path(__file__).parent / "golden").glob("*.yaml"))
    found = {path.stem: [item.what for item in advise(path)] for path in golden if advise(path)}
    assert golden
    assert found == {}
