"""`dockyard dockerfile`: says what Dockyard builds, lints clean, and builds the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_ground import Ground

from dockyard.app.config import AppConfig
from dockyard.app.dockerignore import read_dockerignore
from dockyard.app.ignore import walk_project
from dockyard.cli.main import run_command_line
from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.stages import read_stages
from dockyard.lint.hadolint import find_hadolint, run_hadolint
from dockyard.lint.run import run_rules
from dockyard.lint.subject import Subject
from dockyard.oci.archive import read_archive
from dockyard.oci.tree import read_tree

# name: what is unusual about the project, files besides the ground's, dockyard.toml
PROJECTS: dict[str, tuple[dict[str, str], str]] = {
    "plain": ({}, ""),
    "model beside code": ({"net/model.pt": "x" * 3000, "net/net.py": "", "net/deep/a.py": ""}, ""),
    "odd names": ({"a b.py": "", "we*rd/[x].txt": "", "-dash.py": "", "#hash": ""}, ""),
    "partly ignored": (
        {
            "pkg/a.py": "",
            "pkg/b.log": "",
            "pkg/__pycache__/a.pyc": "",
            ".dockerignore": "**/*.log\n",
        },
        "",
    ),
    "everything set": (
        {},
        'apt = ["libgomp1"]\nentrypoint = ["python"]\ncommand = ["app.py", "a \\"b\\" $c"]\n'
        'user = "1234:5678"\nworkdir = "/srv/app"\nports = [9000, "53/udp"]\n'
        'env = { GREETING = "say \\"hi\\" for $5", LOG_DIR = "/srv/app/logs" }\n'
        'labels = { "a.b" = "c d" }\n',
    ),
}


def lay_out(folder: Path, files: dict[str, str], settings: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if settings:
        (folder / "dockyard.toml").write_text(settings)


@pytest.fixture(params=PROJECTS, ids=list(PROJECTS))
def written(request, ground: Ground) -> Ground:
    lay_out(ground.project, *PROJECTS[request.param])
    code, _, err = ground.run("dockerfile", ground.project)
    assert code == 0, err
    return ground


@pytest.mark.network
def test_says_what_dockyard_builds(written: Ground):
    code, out, err = written.build("--dry-run", "--json")
    assert code == 0, err
    (planned,) = json.loads(out)["images"]
    document = parse((written.project / "Dockerfile").read_text()).check()
    stage = read_stages(document)[-1]
    assert {name: value for name, value in stage.env.items() if name != "PATH"} == {
        name: value for name, value in planned["env"].items() if name != "PATH"
    }
    assert stage.user == planned["user"]
    ports = [step.instruction.rest for step in stage.steps if step.keyword == "EXPOSE"]
    assert ports == planned["ports"]
    words = [stage.last(keyword) for keyword in ("ENTRYPOINT", "CMD")]
    assert [w for step in words if step for w in step.instruction.words or ()] == planned["command"]
    assert stage.last("HEALTHCHECK") is not None


@pytest.mark.network
def test_lints_clean_even_to_hadolint(written: Ground):
    assert run_rules(Subject(written.project)) == ()
    program = find_hadolint()
    if program is not None:
        assert run_hadolint(program, written.project, ["Dockerfile"]) == ((), "")


@pytest.mark.network
def test_lets_in_what_dockyard_takes_and_copies_all_of_it(written: Ground):
    folder = written.project
    patterns = read_dockerignore(
        (folder / "Dockerfile.dockerignore").read_text(), where="Dockerfile.dockerignore"
    )
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    let_in = {path for path in present if not patterns.matches(path)}
    taken = walk_project(folder, AppConfig.model_validate({})).paths()
    assert let_in == taken | {"pylock.toml"}
    (view,) = Subject(folder, dockerfiles=["Dockerfile"]).dockerfiles
    copied = [file.path for copy in view.copies for file in copy.files(view.context)]
    assert sorted(copied) == sorted(taken)


@pytest.mark.network
def test_leaves_a_dockerfile_that_it_did_not_write(ground: Ground):
    target = ground.project / "Dockerfile"
    target.write_text("FROM scratch\n")
    code, _, err = ground.run("dockerfile", ground.project)
    assert code == 2
    assert "--force" in err
    assert target.read_text() == "FROM scratch\n"
    assert ground.run("dockerfile", ground.project, "-o", "other.Dockerfile")[0] == 0
    assert (ground.project / "other.Dockerfile.dockerignore").is_file()
    assert ground.run("dockerfile", ground.project, "--force")[0] == 0
    # What it wrote itself is replaced, and reading it as evidence changes nothing.
    before = target.read_text()
    assert ground.run("dockerfile", ground.project)[0] == 0
    assert target.read_text() == before


@pytest.mark.network
def test_refuses_a_base_that_only_this_machine_has(ground: Ground):
    code, _, err = ground.build("-o", f"oci:{ground.out / 'base'}")
    assert code == 0, err
    (ground.project / "dockyard.toml").write_text(f'base = "oci:{ground.out / "base"}"\n')
    code, _, err = ground.run("dockerfile", ground.project, "--print")
    assert code == 1
    assert "--base IMAGE" in err
    code, out, err = ground.run(
        "dockerfile", ground.project, "--print", "--base", "reg.example/a:1"
    )
    assert code == 0, err
    assert "\nFROM reg.example/a:1\n" in out


@pytest.fixture
def store() -> Iterator[Path]:
    """A folder for podman, whose run root has at most 50 characters."""
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.network
@pytest.mark.slow
def test_podman_builds_it_and_the_image_has_the_same_files_and_start(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
):
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("podman and root are needed to build here")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    podman = ["podman", f"--root={store}/store", f"--runroot={store}/run", "--storage-driver=vfs"]

    def run(*words: object) -> None:
        done = subprocess.run(
            [*podman, *map(str, words)],
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": str(store)},  # where cache mounts are kept
        )
        assert done.returncode == 0, done.stderr[-3000:]

    project = tmp_path / "project"
    lay_out(project, {"app.py": APP, "requirements.txt": "click==8.1.8\n", **FILES}, SETTINGS)
    assert run_command_line(["dockerfile", str(project)]) == 0
    ours = tmp_path / "ours.tar"
    assert run_command_line(["build", str(project), "-o", f"archive:{ours}"]) == 0

    base = stand_in(tmp_path / "base")
    run("load", "--quiet", "--input", base)
    run("tag", "localhost/stand-in:latest", "docker.io/library/python:3.13-slim-trixie")
    # In a chroot, because nothing here may make namespaces.
    options = ["--isolation=chroot", "--network=host", "--layers=false", "--format=docker"]
    run("build", *options, "--tag", "built", project)
    theirs = tmp_path / "theirs.tar"
    run("save", "--quiet", "--output", theirs, "built")

    mine, built = read_archive(ours), read_archive(theirs)
    one, other = mine.config, built.config
    assert (one.cmd, one.entrypoint or (), one.user) == (other.cmd, other.entrypoint, other.user)
    assert (one.working_dir, one.healthcheck) == (other.working_dir, other.healthcheck)
    assert sorted(one.exposed_ports) == sorted(other.exposed_ports)
    assert {**other.env, **one.env, "PATH": ""} == {**other.env, "PATH": ""}
    assert installed(mine) == installed(built)


FILES = {"src/a.py": "x = 1\n", "src/deep/b.py": "", "model.onnx": "m" * 5000}
SETTINGS = 'base = "trixie"\nenv = { LOG_DIR = "/app/logs" }\n'
APP = """\
import click
import http.server

http.server.HTTPServer(("0.0.0.0", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def stand_in(folder: Path) -> Path:
    """An archive that serves as python:3.13-slim-trixie, which can't be pulled here: it has pip."""
    lay_out(folder, {"app.py": "import pip\n", "requirements.txt": "pip==26.3\n"}, "")
    settings = {"name": "localhost/stand-in", "base": "trixie", "user": "root"}
    settings["command"] = "python app.py"
    lines = [f'{key} = "{value}"' for key, value in settings.items()]
    env = {
        name: os.environ[name]
        for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
        if name in os.environ
    }
    if certificates := os.environ.get("SSL_CERT_FILE"):
        # This machine's registry may have a certificate of its own.
        shutil.copy(certificates, folder / "ca.pem")
        env |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/opt/stand-in/ca.pem")
    pairs = ", ".join(f'{name} = "{value}"' for name, value in env.items())
    lines += ['workdir = "/opt/stand-in"', f"env = {{ {pairs} }}"]
    (folder / "dockyard.toml").write_text("\n".join(lines) + "\n")
    archive = folder / "base.tar"
    assert run_command_line(["build", str(folder), "-o", f"archive:{archive}"]) == 0
    return archive


def installed(image) -> dict[str, tuple[str, int, str]]:
    """The app's and the packages' files: kind, mode and hash; not what an installer adds."""
    tree = read_tree(image)
    chosen = {
        path: entry
        for path, entry in tree.files.items()
        if path.startswith(("app/", "opt/venv/lib/python3.13/site-packages/click"))
        and "__pycache__" not in path
        and path.rpartition("/")[2] not in ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
    }
    hashes = tree.sha256(chosen)
    return {
        path: (entry.kind, entry.mode & 0o7777, hashes.get(path, ""))
        for path, entry in chosen.items()
    }
