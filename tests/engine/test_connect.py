"""Finding the engine: what is named is used or refused, what isn't named is looked for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading

import pytest

from dockyard.engine.connect import find_engine, named_endpoint, usual_endpoints
from dockyard.errors import EngineError, UsageError


@pytest.fixture
def docker_folder(tmp_path):
    """A configuration folder of Docker's with the context `lab`, which is the current one."""
    folder = tmp_path / "docker"
    key = hashlib.sha256(b"lab").hexdigest()
    meta = folder / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    endpoint = {"Host": "tcp://lab.example:2376", "SkipTLSVerify": False}
    document = {"Name": "lab", "Metadata": {}, "Endpoints": {"docker": endpoint}}
    (meta / "meta.json").write_text(json.dumps(document))
    (folder / "contexts" / "tls" / key / "docker").mkdir(parents=True)
    (folder / "config.json").write_text('{"currentContext": "lab"}')
    return folder


def test_the_current_context_names_the_engine_with_its_certificates(docker_folder):
    endpoint = named_endpoint({"DOCKER_CONFIG": str(docker_folder)})
    assert endpoint.host == "tcp://lab.example:2376"
    assert endpoint.tls_folder.name == "docker"
    assert endpoint.tls_verify
    assert endpoint.address == "lab.example"


def test_docker_host_wins_over_the_context(docker_folder):
    environ = {"DOCKER_CONFIG": str(docker_folder), "DOCKER_HOST": "ssh://me@far.example"}
    endpoint = named_endpoint(environ)
    assert (endpoint.host, endpoint.tls_folder) == ("ssh://me@far.example", None)
    assert endpoint.address == "far.example"


def test_docker_context_wins_over_the_current_one(docker_folder):
    environ = {"DOCKER_CONFIG": str(docker_folder), "DOCKER_CONTEXT": "default"}
    assert named_endpoint(environ) is None
    with pytest.raises(EngineError, match="context 'gone' can't be read") as caught:
        named_endpoint({**environ, "DOCKER_CONTEXT": "gone"})
    assert "docker context ls" in caught.value.hint


def test_tls_is_what_the_environment_says(tmp_path):
    environ = {"DOCKER_HOST": "tcp://x:2376", "DOCKER_CONFIG": str(tmp_path)}
    assert named_endpoint(environ).tls_folder is None
    assert named_endpoint({**environ, "DOCKER_TLS_VERIFY": "1"}).tls_folder == tmp_path
    without_check = named_endpoint({**environ, "DOCKER_CERT_PATH": "/certificates"})
    assert str(without_check.tls_folder) == "/certificates"
    assert not without_check.tls_verify


@pytest.mark.parametrize("text", ["", "[]", "not json", '{"currentContext": 3}'])
def test_a_strange_configuration_names_nothing(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert named_endpoint({"DOCKER_CONFIG": str(tmp_path)}) is None


def test_podmans_sockets_come_after_dockers(tmp_path):
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman" / "podman.sock").touch()
    hosts = [e.host for e in usual_endpoints({"XDG_RUNTIME_DIR": str(tmp_path)})]
    assert hosts[0] == "unix:///var/run/docker.sock"
    assert hosts[1] == f"unix://{tmp_path}/podman/podman.sock"


def test_a_named_engine_that_is_silent_is_an_error_never_another_engine(tmp_path):
    with pytest.raises(EngineError, match="doesn't answer") as caught:
        find_engine({"DOCKER_HOST": f"unix://{tmp_path}/gone.sock"})
    assert caught.value.where.endswith("gone.sock (DOCKER_HOST): no such socket")
    assert "DOCKER_HOST" in caught.value.hint


def test_says_that_nobody_listens_on_a_socket(tmp_path):
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(EngineError) as caught:
        find_engine({"DOCKER_HOST": f"unix://{path}"})
    assert "nobody listens" in caught.value.where


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"],
    ids=["hangs up", "speaks ssh", "speaks another HTTP"],
)
def test_something_that_isnt_an_engine_is_an_error(tmp_path, answer):
    path = tmp_path / "other.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve():
        for _ in range(4):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(EngineError, match="doesn't answer"):
        find_engine({"DOCKER_HOST": f"unix://{path}"})
    listener.close()


def test_without_any_engine_everything_tried_is_listed(tmp_path, monkeypatch):
    endpoint = usual_endpoints({})[0]
    monkeypatch.setattr(
        "dockyard.engine.connect.usual_endpoints",
        lambda environ: [type(endpoint)(host=f"unix://{tmp_path}/no.sock", origin="Docker")],
    )
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": os.defpath, "DOCKYARD_ENGINE": "docker"}
    with pytest.raises(EngineError, match="no container engine answers") as caught:
        find_engine(environ)
    assert "systemctl start docker" in caught.value.hint
    assert f"tried unix://{tmp_path}/no.sock (Docker): no such socket" in caught.value.hint


@pytest.fixture
def nothing_answers(tmp_path, monkeypatch):
    """An environment of a machine on which no engine listens."""
    monkeypatch.setattr("dockyard.engine.connect.usual_endpoints", lambda environ: [])
    monkeypatch.setenv("DOCKYARD_LOCAL", str(tmp_path / "local"))
    return {"DOCKER_CONFIG": str(tmp_path)}


def test_the_local_engine_is_used_where_none_answers(nothing_answers, monkeypatch):
    monkeypatch.setattr("dockyard.engine.connect.why_no_local", lambda: "")
    assert find_engine(nothing_answers).info.kind == "local"


def test_says_why_the_local_engine_cant_be_used_either(nothing_answers, monkeypatch):
    monkeypatch.setattr("dockyard.engine.connect.why_no_local", lambda: "it needs Linux")
    with pytest.raises(EngineError, match="no container engine answers") as caught:
        find_engine(nothing_answers)
    assert "the local engine: it needs Linux" in caught.value.hint


def test_the_environment_chooses_the_local_engine_or_forbids_it(nothing_answers):
    named = {**nothing_answers, "DOCKER_HOST": "unix:///nonexistent"}
    assert find_engine({**named, "DOCKYARD_ENGINE": "local"}).info.kind == "local"
    with pytest.raises(EngineError, match="no container engine answers"):
        find_engine({**nothing_answers, "DOCKYARD_ENGINE": "docker"})
    with pytest.raises(UsageError, match="DOCKYARD_ENGINE is 'lxc'"):
        find_engine({**nothing_answers, "DOCKYARD_ENGINE": "lxc"})
