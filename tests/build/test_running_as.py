"""Images as they run: as which user, without a shell, with Debian packages added."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from dockyard.build.api import build_project
from dockyard.build.request import BuildRequest, Target
from dockyard.engine.api import ContainerSpec
from dockyard.engine.ready import launch, wait_ready
from dockyard.oci.layout import read_layout
from dockyard.oci.tree import list_layer, read_tree

if TYPE_CHECKING:
    from build_ground import Ground

    from dockyard.engine.docker import DockerEngine

pytestmark = pytest.mark.network

FACTS = """\
import getpass, json, os, pathlib, tempfile
home = pathlib.Path.home()
(home / ".cache").mkdir()
facts = [os.getuid(), os.getgid(), getpass.getuser(), str(home), tempfile.gettempdir()]
print(json.dumps(facts))
"""


def build_into(engine: DockerEngine, ground: Ground, label: str, config: str) -> str:
    """Build the project with this configuration into the engine; return the image's name."""
    name, _, value = label.partition("=")
    (ground.project / "dockyard.toml").write_text(
        f'name = "running-{secrets.token_hex(4)}"\n{config}\n[labels]\n"{name}" = "{value}"\n'
    )
    request = BuildRequest(folder=ground.project)
    return build_project(request, targets=[Target(kind="docker")], engine=engine).references[0]


def spec_for(image: str, label: str, *command: str, **options: Any) -> ContainerSpec:
    name, _, value = label.partition("=")
    return ContainerSpec(
        image=image, command=command or None, network="none", labels={name: value}, **options
    )


def say(engine: DockerEngine, spec: ContainerSpec) -> str:
    """What a container writes until it ends, which it must do well."""
    running = launch(engine, spec)
    try:
        code = engine.wait(running.id)
        written = b"".join(chunk.data for chunk in engine.logs(running.id)).decode()
    finally:
        engine.remove(running.id, force=True)
    assert code == 0, written
    return written


@pytest.mark.docker
@pytest.mark.parametrize(
    ("user", "uid", "gid", "name"),
    [
        ("10001", 10001, 10001, "app"),
        ('"app"', 10001, 10001, "app"),
        ('"root"', 0, 0, "root"),
        ('"1000:1000"', 1000, 1000, "app"),
        ("4711", 4711, 0, "app"),
        ('"nobody:video"', 65534, 44, "nobody"),
    ],
)
def test_any_user_has_a_name_and_a_home_on_a_read_only_root(
    ground: Ground,
    docker_engine: DockerEngine,
    session_label: str,
    user: str,
    uid: int,
    gid: int,
    name: str,
) -> None:
    image = build_into(docker_engine, ground, session_label, f"user = {user}")
    spec = spec_for(
        image,
        session_label,
        *("python", "-c", FACTS),
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
    )
    assert json.loads(say(docker_engine, spec)) == [uid, gid, name, "/tmp", "/tmp"]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("alice", "the base has no user 'alice'"),
        ("app:wheel", "the base has no group 'wheel'"),
    ],
)
def test_a_name_that_the_base_has_not_is_refused(ground: Ground, user: str, message: str) -> None:
    (ground.project / "dockyard.toml").write_text(f'user = "{user}"\n')
    code, _, err = ground.build("--dry-run")
    assert code == 1
    assert message in err
    assert "root, " in err


@pytest.mark.docker
def test_an_image_without_a_shell_runs_and_is_healthy(
    ground: Ground, docker_engine: DockerEngine, session_label: str
) -> None:
    image = build_into(docker_engine, ground, session_label, "shell = false")
    running = launch(docker_engine, spec_for(image, session_label, read_only=True))
    try:
        assert wait_ready(running, timeout=60).how == "healthy"
    finally:
        docker_engine.remove(running.id, force=True)
    look = "import glob; print(glob.glob('/*bin/*sh') + glob.glob('/usr/*bin/busybox'))"
    assert say(docker_engine, spec_for(image, session_label, "python", "-c", look)) == "[]\n"


def test_an_image_without_a_shell_has_none_of_its_files(ground: Ground) -> None:
    (ground.project / "dockyard.toml").write_text("shell = false\n")
    ground.digest("without")
    tree = read_tree(read_layout(ground.layout("without")))
    names = {path.rpartition("/")[2] for path in tree.files if "bin/" in path}
    assert not names & {"sh", "bash", "dash", "busybox", "ls"}
    assert tree.resolve("usr/bin/python3") == "usr/bin/python3.13"


@pytest.mark.docker
def test_debian_packages_are_a_layer_of_their_own_and_load(
    ground: Ground, docker_engine: DockerEngine, session_label: str
) -> None:
    image = build_into(docker_engine, ground, session_label, 'apt = ["libsndfile1"]')
    load = "import ctypes; ctypes.CDLL('libsndfile.so.1').sf_version_string; print('loaded')"
    spec = spec_for(image, session_label, "python", "-c", load)
    assert say(docker_engine, spec) == "loaded\n"
    ground.digest("with")
    (ground.project / "dockyard.toml").write_text("")
    ground.digest("plain")
    added, plain = read_layout(ground.layout("with")), read_layout(ground.layout("plain"))
    kinds = [layer.created_by.split()[1] for layer in added.layers]
    assert kinds == ["base", "apt", "wheels", "bytecode", "app"]
    assert [layer.diff_id for layer in (added.layers[0], *added.layers[2:])] == [
        layer.diff_id for layer in plain.layers
    ]
    files = list_layer(added.layers[1])
    assert any(path.startswith("var/lib/dpkg/status.d/libsndfile1") for path in files)
