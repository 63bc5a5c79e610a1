"""`dockyard build -f`: the classic file without an engine, and engines where that can't be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from direct_ground import Ground, files, load, settings
from registry_server import PROGRAM, registry_server

from dockyard.cache import Cache
from dockyard.cli.main import run_command_line
from dockyard.oci.archive import read_archive
from dockyard.oci.image import Image
from dockyard.oci.layout import read_layout

NOWHERE = "unix:///nonexistent/docker.sock"
TAG = "tensorflow/tensorflow:2.3.0-gpu-py3"
# The classic file, as it is found in most projects.
CLASSIC = """\
FROM {base}
WORKDIR /app
COPY . /app
RUN pip install -r requirements.txt
ENV MODEL_PATH=/app/model.h5
ENV LOG_DIR=/app/logs
CMD ["python", "app.py"]
"""
APP = """\
import threading, urllib.request
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

server = make_server("127.0.0.1", 8080, Response("it answers"))
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://127.0.0.1:8080/").read().decode())
"""


def build(capsys, *words) -> tuple[int, str, str]:
    code = run_command_line(["build", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "Some App"
    folder.mkdir()
    (folder / "a").write_text("a\n")
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY a /a\nCMD ["/a"]\n')
    return folder


def test_needs_no_engine_where_every_line_is_understood(project, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    code, out, err = build(capsys, project, "-f", "Dockerfile", "-o", f"oci:{tmp_path / 'out'}")
    assert code == 0, err
    assert "Built some-app:latest without an engine" in out
    assert files(read_layout(tmp_path / "out"))["a"][0] == "file"


def test_says_which_line_is_the_reason(project, tmp_path, capsys):
    (project / "other").write_text("FROM scratch\nLABEL a=b\nRUN ./configure | tee log\n")
    words = (project, "-f", project / "other", "--builder", "direct", "-o", f"oci:{tmp_path}/o")
    code, _, err = build(capsys, *words)
    assert code == 1
    assert "other:3" in err
    assert "only commands joined by &&" in err
    assert not (tmp_path / "o").exists()


@pytest.mark.docker
def test_asks_the_engine_after_naming_the_line(project, tmp_path, capfd):
    (project / "Dockerfile").write_text("FROM scratch\nADD a.tar.gz /x\n")
    shutil.make_archive(str(project / "a"), "gztar", project, "a")
    words = ["build", str(project), "-f", "Dockerfile", "-o", f"oci:{tmp_path / 'o'}", "--json"]
    assert run_command_line(words) == 0
    out, err = capfd.readouterr()
    assert "Dockerfile:2: ADD isn't built without an engine here: ADD unpacks a.tar.gz" in err
    assert json.loads(out)["builder"].startswith("with ")
    assert "x/a" in files(read_layout(tmp_path / "o"))
    left = subprocess.run(
        ["docker", "images", "-q", "dockyard-build-*"], capture_output=True, text=True, check=True
    )
    assert left.stdout == ""


def test_podman_builds_when_buildah_is_asked_for(project, tmp_path, capfd, monkeypatch):
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("podman and root are needed to build here")
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    monkeypatch.setenv("STORAGE_DRIVER", "vfs")
    words = ["build", str(project), "-f", "Dockerfile", "--builder", "buildah"]
    code = run_command_line([*words, "-o", f"archive:{tmp_path / 'o.tar'}"])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert "with podman" in out or "with buildah" in out
    assert "a" in files(read_archive(tmp_path / "o.tar"))


# words after the folder, what is said
WRONG = [
    (("-f", "nothing"), "no such Dockerfile"),
    (("-f", "Dockerfile", "--platform", "linux/amd64,linux/arm64"), "one platform at a time"),
    (("-f", "Dockerfile", "--build-arg", "=x"), "NAME=VALUE"),
    (("-f", "Dockerfile", "-o", "elsewhere"), "is no output"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[says for _, says in WRONG])
def test_refuses_a_wrong_command_line(project, capsys, words, says):
    code, _, err = build(capsys, project, *words)
    assert code == 2
    assert says in err


@dataclass(frozen=True)
class Classic:
    """A base under the name that the classic file gives it, in a registry and as an archive."""

    name: str
    archive: Path


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classic]:
    if shutil.which(PROGRAM) is None:
        pytest.skip("docker-registry isn't installed")
    folder = tmp_path_factory.mktemp("classic")
    (folder / "registry").mkdir()
    with pytest.MonkeyPatch.context() as patch, registry_server(folder / "registry") as server:
        patch.delenv("PIP_FIND_LINKS", raising=False)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        name = f"{server.host}/{TAG}"
        archive = stand_in(folder / "base", name)
        load(read_archive(archive), name, folder)
        yield Classic(name, archive)
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def same_as_docker(project: Path, ours: Image, folder: Path) -> set[str]:
    """Compare with Docker's own build; return what only that has: what pip leaves by running."""
    ground = Ground(Cache(folder / "cache"), {}, folder)
    theirs = ground.engines(project, "--network=host")
    assert settings(ours) == settings(theirs)
    mine, docker = files(ours), files(theirs)
    left = {
        path for path in docker if path not in mine and ("__pycache__" in path or "/.cache" in path)
    }
    assert mine == {path: entry for path, entry in docker.items() if path not in left}
    return left


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.slow
def test_the_classic_file_is_what_docker_builds_and_it_answers(
    classic: Classic, tmp_path: Path, capsys, monkeypatch
):
    project = tmp_path / "classic"
    project.mkdir()
    (project / "Dockerfile").write_text(CLASSIC.format(base=classic.name))
    (project / "requirements.txt").write_text("werkzeug==3.1.3\n")
    (project / "app.py").write_text(APP)
    (project / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(5000))
    with monkeypatch.context() as alone:
        # No engine: the base comes from its registry.
        alone.setenv("DOCKER_HOST", NOWHERE)
        words = ("-f", "Dockerfile", "--builder", "direct", "-o", f"oci:{tmp_path / 'o'}")
        code, _, err = build(capsys, project, *words)
    assert code == 0, err
    ours = read_layout(tmp_path / "o")
    left = same_as_docker(project, ours, tmp_path)
    assert not [path for path in left if "/werkzeug/" in path]
    name = f"dockyard-direct-{os.getpid()}:classic-ours"
    load(ours, name, tmp_path)
    try:
        answer = subprocess.run(
            ["docker", "run", "--rm", "--network=none", name],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)
    assert answer.stdout == "it answers\n", answer.stderr


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.slow
def test_pip_replaces_and_upgrades_as_pip_does(classic: Classic, tmp_path: Path, capsys):
    project = tmp_path / "upgrades"
    project.mkdir()
    (project / "Dockerfile").write_text(
        f"FROM {classic.name}\n"
        "RUN pip install --no-cache-dir --no-compile click==8.1.7 werkzeug==3.1.2\n"
        "RUN pip install -U --no-cache-dir click && python -m pip install -q werkzeug==3.1.3\n"
    )
    words = ("-f", "Dockerfile", "--builder", "direct", "-o", f"oci:{tmp_path / 'o'}")
    code, _, err = build(capsys, project, *words)
    assert code == 0, err
    same_as_docker(project, read_layout(tmp_path / "o"), tmp_path)


def stand_in(folder: Path, name: str) -> Path:
    """A base with Python and pip under that name, pushed to its registry; returns its archive.

    The real one has TensorFlow, 600 MB that change nothing about how the file is built.
    """
    folder.mkdir()
    (folder / "app.py").write_text("import pip\n")
    (folder / "requirements.txt").write_text("pip==26.3\n")
    env = {key: os.environ[key] for key in ("PIP_INDEX_URL", "UV_INDEX_URL") if key in os.environ}
    if certificates := os.environ.get("SSL_CERT_FILE"):
        # The index may be behind a certificate of this machine's own.
        shutil.copy(certificates, folder / "ca.pem")
        env |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/opt/base/ca.pem")
    pairs = ", ".join(f'{key} = "{value}"' for key, value in env.items())
    (folder / "dockyard.toml").write_text(
        'base = "trixie"\nuser = "root"\ncommand = "python app.py"\nworkdir = "/opt/base"\n'
        f"env = {{ {pairs} }}\n"
    )
    archive = folder / "base.tar"
    words = ["build", str(folder), "-t", name, "-o", f"archive:{archive}", "-o", "registry"]
    assert run_command_line(words) == 0
    return archive
