"""What others make of Dockyard's images: Docker, Podman, skopeo, and the specification's schemas.

The image has a real Debian base, a real compiled wheel in a layer of its own, small wheels,
bytecode, and an app that says how it is being run.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_index import TinyIndex

from dockyard.build.api import build_project
from dockyard.build.request import BuildRequest, Target
from dockyard.build.sinks import load_into
from dockyard.engine.api import ContainerSpec, Port
from dockyard.engine.ready import launch, wait_ready
from dockyard.oci.archive import read_archive
from dockyard.oci.layout import read_layout
from dockyard.oci.verify import verify_image
from dockyard.progress import SILENT
from image_schemas import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockyard.engine.api import EngineInfo
    from dockyard.engine.docker import DockerEngine
    from dockyard.oci.image import Image

pytestmark = pytest.mark.network

APP = """\
import http.server
import json
import os
import tempfile

import alpha
import numpy


def writable(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def facts():
    return {
        "answer": int((numpy.arange(6).reshape(2, 3) @ numpy.arange(3)).sum()),
        "numpy": numpy.__version__,
        "alpha": alpha.__version__,
        "uid": os.getuid(),
        "home": os.environ["HOME"],
        "writable": [folder for folder in ("/", "/app", "/opt/venv", "/tmp") if writable(folder)],
    }


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(facts()).encode())


if __name__ == "__main__":
    http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""

FACTS = {"answer": 19, "numpy": "2.2.6", "alpha": "1.0", "uid": 10001, "home": "/tmp"}


@dataclass(frozen=True)
class Built:
    """A project and the image made of it, in every form."""

    project: Path
    image: Image
    references: tuple[str, ...]
    layout: Path
    archive: Path

    @property
    def reference(self) -> str:
        return self.references[0]


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
    numpy_wheels: dict[str, Path],
    session_label: str,
) -> Iterator[Built]:
    root = tmp_path_factory.mktemp("acceptance")
    index = TinyIndex(root / "index")
    index.wheel("alpha", "1.0", requires=["numpy"])
    for wheel in numpy_wheels.values():
        index.add("numpy", wheel)
    project = root / "project"
    project.mkdir()
    (project / "app.py").write_text(APP)
    (project / "requirements.txt").write_text("alpha\n")
    label, _, value = session_label.partition("=")
    (project / "dockyard.toml").write_text(
        f'name = "accepted-{secrets.token_hex(4)}"\n[labels]\n"{label}" = "{value}"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_")):
                patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_INDEX_URL", index.url)
        layout, archive = root / "layout", root / "image.tar"
        targets = [Target(kind="oci", path=layout), Target(kind="archive", path=archive)]
        made = build_project(BuildRequest(folder=project), targets=targets)
        yield Built(project, made.images[0].image, made.references, layout, archive)


def run_tool(*command: object, **more: Any) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def skopeo() -> tuple[str, ...]:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo isn't installed")
    return ("skopeo", "--insecure-policy")


def test_every_layer_and_document_is_what_it_says(built: Built) -> None:
    for image in (read_layout(built.layout), read_archive(built.archive)):
        assert image.digest == built.image.digest
        assert verify_image(image) == []
    assert [layer.created_by.split()[1] for layer in built.image.layers] == [
        *("base", "wheel", "wheels", "bytecode", "app")
    ]


def test_every_document_fits_the_schemas_of_the_specification(built: Built) -> None:
    index = json.loads((built.layout / "index.json").read_bytes())
    validate("layout", (built.layout / "oci-layout").read_bytes())
    validate("index", (built.layout / "index.json").read_bytes())

    def blob(descriptor: dict[str, str]) -> bytes:
        return (built.layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    (entry,) = index["manifests"]
    manifest = blob(entry)
    validate("manifest", manifest)
    validate("config", blob(json.loads(manifest)["config"]))


@contextmanager
def serving(engine: DockerEngine, reference: str, label: str, **options: Any) -> Iterator[Any]:
    """Run the image on a read-only root; yield what its app says."""
    name, _, value = label.partition("=")
    spec = ContainerSpec(
        image=reference,
        ports=(Port(container=8080, host_ip="127.0.0.1"),),
        read_only=True,
        labels={name: value},
        **options,
    )
    running = launch(engine, spec)
    try:
        ready = wait_ready(running, timeout=120)
        with urllib.request.urlopen(ready.urls[0], timeout=30) as answer:
            yield json.loads(answer.read())
    finally:
        engine.remove(running.id, force=True)


@pytest.mark.docker
def test_docker_loads_it_and_it_answers_on_a_read_only_root(
    built: Built, docker_engine: DockerEngine, session_label: str
) -> None:
    with built.archive.open("rb") as file:
        loaded = docker_engine.load(iter(lambda: file.read(1 << 20), b""))
    assert loaded == (built.reference,)
    known = docker_engine.image(built.reference)
    assert known is not None
    assert known.id == str(built.image.id)
    with serving(docker_engine, built.reference, session_label) as facts:
        assert facts == {**FACTS, "writable": []}
    tmpfs = {"/tmp": "mode=1777"}
    with serving(docker_engine, built.reference, session_label, tmpfs=tmpfs) as facts:
        assert facts == {**FACTS, "writable": ["/tmp"]}


class Counting:
    """An engine's loader that counts what it is sent."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.sent: list[int] = []

    @property
    def info(self) -> EngineInfo:
        return self.engine.info

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        return self.engine.known_layers()

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        self.sent.append(0)

        def counted() -> Iterator[bytes | memoryview]:
            for chunk in chunks:
                self.sent[-1] += len(chunk)
                yield chunk

        return self.engine.load(counted())


@pytest.mark.docker
def test_a_changed_app_sends_docker_the_app_alone(
    built: Built, docker_engine: DockerEngine, session_label: str, tmp_path: Path
) -> None:
    if not docker_engine.info.partial_loads:
        pytest.skip(f"{docker_engine.info} wants every layer in an archive")
    loader = Counting(docker_engine)
    image, references = built.image, built.references
    load_into(loader, image, references=references, reporter=SILENT)
    project = tmp_path / "project"
    shutil.copytree(built.project, project)
    (project / "app.py").write_text(APP.replace("numpy.arange(3)", "numpy.arange(3) * 2"))
    request = BuildRequest(folder=project, offline=True)
    changed = build_project(request, targets=[Target(kind="docker")], engine=loader)
    assert len(loader.sent) == 2
    assert loader.sent[1] < 40_000 < image.size
    with serving(docker_engine, changed.references[0], session_label) as facts:
        assert facts["answer"] == 2 * FACTS["answer"]


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    """Podman with a storage of its own, for which it wants a short name."""
    if shutil.which("podman") is None:
        pytest.skip("podman isn't installed")
    with tempfile.TemporaryDirectory(prefix="dy") as folder:
        command = ("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run")
        command = (*command, "--storage-driver", "vfs")
        works = subprocess.run([*command, "images"], capture_output=True, text=True, check=False)
        if works.returncode:
            pytest.skip(f"podman doesn't work here: {works.stderr.strip()[-200:]}")
        yield command
        subprocess.run([*command, "rm", "-af"], capture_output=True, check=False)
        # Podman may have made folders that only its own user namespace can remove.
        subprocess.run([*command, "rmi", "-af"], capture_output=True, check=False)


def test_podman_loads_it_and_it_runs(built: Built, podman: tuple[str, ...]) -> None:
    run_tool(*podman, "load", "-q", "-i", built.archive)
    (found,) = json.loads(run_tool(*podman, "inspect", "--type", "image", built.reference))
    assert found["Id"] == built.image.id.hex
    program = "import app, json; print(json.dumps(app.facts()))"
    # Its own limits may be higher than what this machine lets anybody set.
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    options = ("--rm", "--read-only", "--read-only-tmpfs=false", "--network=none", *limits)
    done = subprocess.run(
        [*podman, "run", *options, built.reference, "python", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (125, 126):
        pytest.skip(f"podman can't run containers here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {**FACTS, "writable": []}


def test_skopeo_reads_and_copies_it(built: Built, skopeo: tuple[str, ...], tmp_path: Path) -> None:
    image = built.image
    source = f"oci:{built.layout}"
    said = json.loads(run_tool(*skopeo, "inspect", source))
    assert said["Digest"] == str(image.digest)
    assert said["Layers"] == [str(layer.descriptor.digest) for layer in image.layers]
    assert "User" not in said
    config = json.loads(run_tool(*skopeo, "inspect", "--config", source))
    assert config["config"]["User"] == "10001"
    # It hashes what it copies, and unpacks every layer for the second form.
    run_tool(*skopeo, "copy", "-q", source, f"dir:{tmp_path}/dir")
    assert (tmp_path / "dir" / "manifest.json").read_bytes() == image.manifest_bytes
    run_tool(*skopeo, "copy", "-q", source, f"docker-archive:{tmp_path}/docker.tar:copied:1")
    copied = read_archive(tmp_path / "docker.tar")
    assert copied.config.diff_ids == image.config.diff_ids
    assert verify_image(replace(copied, annotations={})) == []
    for form in ("oci-archive", "docker-archive"):
        run_tool(*skopeo, "copy", "-q", f"{form}:{built.archive}", f"oci:{tmp_path}/{form}:x")
        assert read_layout(tmp_path / form, "x").config.diff_ids == image.config.diff_ids
