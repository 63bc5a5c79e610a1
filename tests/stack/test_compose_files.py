"""The Compose files that are written: golden files for a reviewer, and what Compose says of them.

`DOCKYARD_WRITE_GOLDEN=1 pytest tests/stack/test_compose_files.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from dockyard.app.config import parse_config
from dockyard.errors import StackError
from dockyard.stack.compose import compose_text
from dockyard.stack.files import make_secrets, write_stack
from dockyard.stack.plan import App, data_folder, plan_stack, stack_name

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.toml"))
APP = App(image="digits:latest", port=8080, log_dir="/app/logs", writable=("/app/logs",))


def stack_of(text, app=APP):
    return plan_stack(parse_config(tomllib.loads(text)).stack, app)


def config_as_json(program, folder):
    files = ["--project-directory", folder, "-f", folder / "compose.yaml"]
    done = subprocess.run(
        [program, *files, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.stem)
def test_writes_the_golden_file(case):
    text = compose_text(stack_of(case.read_text()))
    golden = case.with_suffix(".yaml")
    if os.environ.get("DOCKYARD_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.stem)
def test_compose_accepts_the_golden_file_and_reads_what_is_written(case, tmp_path, compose_program):
    stack = stack_of(case.read_text())
    write_stack(stack, tmp_path, tmp_path)
    read = config_as_json(compose_program, tmp_path)
    assert read["name"] == stack.name
    assert set(read["services"]) == {service.name for service in stack.services} | set(
        stack.foreign
    )
    for name, service in read["services"].items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert service["init"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.stem)
def test_nothing_is_published_beyond_this_machine_unless_asked_for(case):
    services = yaml.safe_load(case.with_suffix(".yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    asked = case.stem == "open"
    assert all(port.startswith("127.0.0.1:") for port in ports) is not asked


def test_only_the_app_shares_a_network_with_the_database(tmp_path, compose_program):
    stack = stack_of('[stack]\ndatabase = "postgres"\nmonitoring = true')
    write_stack(stack, tmp_path, tmp_path)
    read = config_as_json(compose_program, tmp_path)
    networks = {name: set(service["networks"]) for name, service in read["services"].items()}
    assert networks["db"] == {"backend"}
    assert read["networks"]["backend"]["internal"] is True
    assert [name for name, joined in networks.items() if joined & networks["db"]] == ["db", "web"]
    assert "ports" not in read["services"]["db"]


def test_gpus_are_reserved_as_compose_wants_them(tmp_path, compose_program):
    for text, device in (
        ('gpus = "all"', {"count": -1}),
        ("gpus = 2", {"count": 2}),
        ('gpus = ["GPU-8a56"]', {"device_ids": ["GPU-8a56"]}),
    ):
        write_stack(stack_of(f"[stack]\n{text}"), tmp_path, tmp_path)
        web = config_as_json(compose_program, tmp_path)["services"]["web"]
        reserved = web["deploy"]["resources"]["reservations"]["devices"]
        assert reserved == [{"capabilities": ["gpu"], "driver": "nvidia", **device}]


def test_the_password_is_in_a_file_of_its_own_and_nowhere_else(tmp_path, compose_program):
    stack = stack_of('[stack]\ndatabase = "postgres"')
    written = write_stack(stack, tmp_path, tmp_path)
    assert written.secrets == ("db-password",)
    secret = tmp_path / ".dockyard/secrets/db-password"
    password = secret.read_text()
    assert len(password) == 32
    # Any user of a container may read it, no other user of this machine can reach it.
    assert stat.S_IMODE(secret.stat().st_mode) == 0o444
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path != secret]
    assert not [path for path in others if password in path.read_text()]
    assert password not in json.dumps(config_as_json(compose_program, tmp_path)["services"])


def test_git_ignores_what_is_secret(tmp_path):
    write_stack(stack_of('[stack]\ndatabase = "postgres"'), tmp_path, tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "--all"], check=True)
    listed = subprocess.run(
        ["git", "-C", tmp_path, "ls-files"], check=True, capture_output=True, text=True
    )
    assert listed.stdout.split() == ["compose.yaml"]


def test_the_password_is_made_once(tmp_path):
    stack = stack_of('[stack]\ndatabase = "postgres"')
    write_stack(stack, tmp_path, tmp_path)
    secret = tmp_path / ".dockyard/secrets/db-password"
    before = secret.read_text()
    assert make_secrets(stack, tmp_path) == ()
    assert secret.read_text() == before


def test_keeps_a_compose_file_that_someone_else_wrote(tmp_path):
    theirs = tmp_path / "compose.yaml"
    theirs.write_text("services: {}\n")
    stack = stack_of("[stack]")
    with pytest.raises(StackError, match="didn't write it"):
        write_stack(stack, tmp_path, tmp_path)
    assert theirs.read_text() == "services: {}\n"
    write_stack(stack, tmp_path, tmp_path, force=True)
    write_stack(stack, tmp_path, tmp_path)
    assert theirs.read_text() == compose_text(stack)


def test_says_which_file_cannot_be_written(tmp_path):
    (tmp_path / "compose.yaml").mkdir()
    with pytest.raises(StackError) as caught:
        write_stack(stack_of("[stack]"), tmp_path, tmp_path, force=True)
    assert caught.value.where == str(tmp_path / "compose.yaml")
    assert list(tmp_path.iterdir()) == [tmp_path / "compose.yaml"]


# image, where the data are
DATA = [
    ("postgres:18", "/var/lib/postgresql"),
    ("postgres:18.1-alpine", "/var/lib/postgresql"),
    ("postgres:17-bookworm", "/var/lib/postgresql/data"),
    ("postgres", "/var/lib/postgresql"),
    ("postgres:latest", "/var/lib/postgresql"),
    ("registry.example:5000/team/postgres:16@sha256:" + "0" * 64, "/var/lib/postgresql/data"),
]


@pytest.mark.parametrize(("image", "folder"), DATA)
def test_knows_where_a_version_keeps_its_data(image, folder):
    assert data_folder(image) == folder


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("registry.example:5000/team/Digits.v2:1.0", "digits-v2"),
        ("digits@sha256:" + "0" * 64, "digits"),
        ("__", "app"),
    ],
)
def test_names_the_stack_after_the_image(image, name):
    assert stack_name(parse_config({"stack": {}}).stack, image) == name


def test_an_app_without_a_port_or_a_health_check_publishes_and_promises_nothing():
    stack = stack_of("[stack]\nmonitoring = true", App(image="worker:latest", has_check=False))
    assert stack.services[0].published == ()
    assert "its own health check" not in stack.services[0].about
