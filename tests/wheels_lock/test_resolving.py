"""Resolution by the real uv, against a small index on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lock_project import Project, versions
from tiny_index import TinyIndex, write_project

from dockyard.errors import ResolveError
from dockyard.wheels.resolve import resolve


def test_what_is_asked_for_comes_with_its_dependencies_and_is_marked(project: Project) -> None:
    lock = project.requirements("alpha\n")
    assert versions(lock) == {"alpha": "2.0", "beta": "2.0"}
    assert [wheel.requested for wheel in lock.wheels] == [True, False]
    alpha = lock.wheels[0]
    assert alpha.filename == "alpha-2.0-py3-none-any.whl"
    assert len(alpha.sha256) == 64
    assert alpha.size == Path(alpha.url.removeprefix("file://")).stat().st_size
    assert (lock.python, lock.architecture, lock.cuda) == ("3.11", "amd64", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("gamma[more]\n", {"gamma", "beta", "delta"}, id="an extra"),
        pytest.param("gamma\n", {"gamma", "beta"}, id="without the extra"),
        pytest.param("alpha<2\nbeta ; sys_platform == 'win32'\n", {"alpha"}, id="another system"),
        pytest.param("delta ; python_version >= '3.11'\n", {"delta"}, id="this Python"),
        pytest.param("-r more.txt\n", {"alpha"}, id="a nested file"),
        pytest.param("-c limits.txt\nalpha\n", {"alpha"}, id="a constraint file"),
    ],
)
def test_requirements_files_mean_what_they_mean_to_pip(
    project: Project, text: str, expected: set[str]
) -> None:
    project.write("more.txt", "alpha==1.0\n")
    project.write("limits.txt", "alpha<2\n")
    assert set(versions(project.requirements(text))) == expected


def test_markers_are_the_targets_not_the_hosts(project: Project, index: TinyIndex) -> None:
    index.wheel("chooser", "1.0", requires=["alpha<2; platform_machine == 'aarch64'"])
    assert set(versions(project.requirements("chooser\n", architecture="amd64"))) == {"chooser"}
    assert set(versions(project.requirements("chooser\n", architecture="arm64"))) == {
        "alpha",
        "chooser",
    }


def test_wheels_are_chosen_for_the_target(project: Project, index: TinyIndex) -> None:
    tags = [
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_39_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp311-cp311-musllinux_1_2_x86_64",
        "cp311-cp311-win_amd64",
    ]
    for tag in tags:
        index.wheel("multi", "1.0", tag=tag)
    project.write("requirements.txt", "multi\n")

    def chosen(**target: str) -> str:
        return project.resolve(**target).wheels[0].filename.removeprefix("multi-1.0-")

    assert chosen() == "cp311-cp311-manylinux_2_28_x86_64.whl"
    assert chosen(glibc="2.41") == "cp311-cp311-manylinux_2_39_x86_64.whl"
    assert chosen(glibc="2.17") == "cp311-cp311-manylinux_2_17_x86_64.whl"
    assert chosen(architecture="arm64") == "cp311-cp311-manylinux_2_17_aarch64.whl"
    assert chosen(architecture="arm64", python="3.13").startswith("cp313-")


PYPROJECT = """\
[project]
name = "app"
version = "1.2"
dependencies = ["alpha<2"]

[project.optional-dependencies]
wide = ["gamma"]

[dependency-groups]
base = ["beta"]
test = ["delta", {include-group = "base"}]
"""


def test_extras_and_groups_are_taken_when_asked_for(project: Project) -> None:
    project.write("pyproject.toml", PYPROJECT)
    assert set(versions(project.resolve("pyproject.toml"))) == {"alpha"}
    wide = project.resolve("pyproject.toml", extras=("wide",))
    assert set(versions(wide)) == {"alpha", "gamma", "beta"}
    tested = project.resolve("pyproject.toml", groups=("test",))
    assert versions(tested) == {"alpha": "1.0", "beta": "2.0", "delta": "1.0"}
    assert [wheel.name for wheel in tested.wheels if wheel.requested] == ["alpha", "beta", "delta"]


# what was asked, what the message says, where it points, what it advises
COMPLAINTS = [
    pytest.param("\n\nnosuch\n", "'nosuch' isn't on any index", ":3", "spelling", id="missing"),
    pytest.param("gamma\nbeta==2.0\n", "contradict", ":1", "Loosen", id="conflict"),
    pytest.param("alpha==9\n", "no version of alpha fits", ":1", "exists", id="no such version"),
    pytest.param("alpha>=3\n", "newer than 2.0", ":1", "exists", id="too new"),
    pytest.param("newlibc\n", "needs glibc 2.39, the base has 2.36", ":1", "base", id="glibc"),
    pytest.param("oldpy\n", "no wheel for Python 3.11, only for 3.9", ":1", "Python", id="Python"),
    pytest.param("winonly\n", "no wheel for linux/amd64", ":1", "platform", id="platform"),
    pytest.param(
        "later\n", "needs Python >=3.12, the image has 3.11", ":1", "python", id="requires"
    ),
    pytest.param("deep\n", "deep depends on it", None, "spelling", id="missing dependency"),
    pytest.param("alpha\nnot a name!!\n", "isn't understood", ":2", "name", id="garbage"),
    pytest.param("alpha\n-r absent.txt\n", "absent.txt can't be read", ":2", "Name", id="nested"),
    pytest.param("alpha\n--use-pep517\n", "option isn't understood", ":2", "Take", id="option"),
    pytest.param("alpha\n./absent\n", "no such file", ":2", "path", id="absent folder"),
    pytest.param("-e ./empty\n", "no Python project", ":1", "installed", id="empty folder"),
    pytest.param("x @ git+file:///absent/repo\n", "can't be cloned", ":1", "git", id="repository"),
    pytest.param(
        "alpha==1.0 --hash=sha256:" + "a" * 64 + "\n", "hash", None, "--hash", id="other hash"
    ),
]


@pytest.mark.parametrize(("text", "what", "line", "hint"), COMPLAINTS)
def test_what_cant_be_had_is_one_clear_message(
    project: Project, index: TinyIndex, text: str, what: str, line: str | None, hint: str
) -> None:
    index.wheel("newlibc", "1.0", tag="cp311-cp311-manylinux_2_39_x86_64")
    index.wheel("oldpy", "1.0", tag="cp39-cp39-manylinux_2_17_x86_64")
    index.wheel("winonly", "1.0", tag="cp311-cp311-win_amd64")
    index.wheel("later", "1.0", requires_python=">=3.12")
    index.wheel("deep", "1.0", requires=["nosuch-either"])
    (project.root / "empty").mkdir()
    with pytest.raises(ResolveError) as caught:
        project.requirements(text)
    error = caught.value
    assert what in error.what
    assert error.where == f"requirements.txt{line or ''}"
    assert error.hint is not None
    assert hint in error.hint
    assert "we can conclude that your requirements" not in str(error)


def test_a_narrow_terminal_does_not_change_what_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with pytest.raises(ResolveError) as caught:
        project.requirements("alpha\n./absent\n")
    assert caught.value.where == "requirements.txt:2"


@pytest.mark.parametrize(
    ("kind", "text", "more", "what"),
    [
        pytest.param("pyproject.toml", "[project\n", {}, "no valid TOML", id="broken TOML"),
        pytest.param("pyproject.toml", "[tool.x]\n", {}, "no [project] table", id="no project"),
        pytest.param(
            "pyproject.toml", PYPROJECT, {"extras": ("wid",)}, "no extra 'wid'", id="extra"
        ),
        pytest.param(
            "pyproject.toml", PYPROJECT, {"groups": ("nope",)}, "group 'nope'", id="group"
        ),
        pytest.param("requirements.txt", "alpha\n", {"extras": ("x",)}, "no extras", id="extras"),
        pytest.param("pylock.toml", "x = [\n", {}, "no valid TOML", id="broken lock"),
        pytest.param("pylock.toml", 'lock-version = "1.0"\n', {}, "PEP 751", id="incomplete lock"),
        pytest.param(
            "pylock.toml",
            'lock-version = "9.0"\ncreated-by = "x"\npackages = []\n',
            {},
            "9.0",
            id="lock of the future",
        ),
        pytest.param("uv.lock", "][", {}, "no valid TOML", id="broken uv.lock"),
    ],
)
def test_a_source_that_cant_be_read_is_named(
    project: Project, kind: str, text: str, more: dict, what: str
) -> None:
    project.write(kind, text)
    with pytest.raises(ResolveError) as caught:
        project.resolve(kind, **more)
    assert what in caught.value.what
    assert kind in str(caught.value.where)


def test_a_missing_source_is_named(project: Project) -> None:
    with pytest.raises(ResolveError, match=r"requirements\.txt can't be read"):
        project.resolve()


def test_hashes_choose_among_the_files(project: Project, index: TinyIndex) -> None:
    index.wheel("multi", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    plain = index.wheel("multi", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    import hashlib

    sha256 = hashlib.sha256(plain.read_bytes()).hexdigest()
    lock = project.requirements(f"multi==1.0 \\\n    --hash=sha256:{sha256}\n")
    assert lock.wheels[0].sha256 == sha256


def test_unchanged_inputs_are_resolved_once(project: Project, index: TinyIndex) -> None:
    first = project.requirements("alpha\n")
    index.wheel("alpha", "3.0")
    again = project.requirements("alpha   # a comment changes nothing\n\n")
    assert versions(again) == versions(first)
    assert len(project.heard.tasks) == 1
    assert versions(project.resolve(upgrade=True)) == {"alpha": "3.0"}
    assert versions(project.requirements("alpha>1\n")) == {"alpha": "3.0"}
    assert versions(project.resolve()) == {"alpha": "3.0"}


def test_a_kept_resolution_whose_file_is_gone_is_made_anew(
    project: Project, index: TinyIndex
) -> None:
    wheel = project.requirements("alpha<2\n").wheels[0]
    index.wheel("alpha", "1.5")
    Path(wheel.url.removeprefix("file://")).unlink()
    assert versions(project.requirements("alpha<2\n")) == {"alpha": "1.5"}


def test_a_nested_file_is_an_input(project: Project) -> None:
    project.write("more.txt", "alpha==1.0\n")
    assert versions(project.requirements("-r more.txt\n"))["alpha"] == "1.0"
    project.write("more.txt", "alpha==2.0\n")
    assert versions(project.requirements("-r more.txt\n"))["alpha"] == "2.0"


def test_a_source_distribution_is_kept_for_building(project: Project, index: TinyIndex) -> None:
    index.sdist("onlysource", "1.0", requires=["beta"])
    lock = project.requirements("onlysource\n")
    assert versions(lock) == {"beta": "2.0"}
    source = lock.sources[0]
    assert (source.form, source.name, source.version) == ("sdist", "onlysource", "1.0")
    assert source.requested


def test_a_foreign_target_prefers_wheels_to_newer_source(
    project: Project, index: TinyIndex, foreign_architecture: str
) -> None:
    index.wheel("mixed", "1.0")
    index.sdist("mixed", "2.0")
    lock = project.requirements("mixed\n", architecture=foreign_architecture)
    assert versions(lock) == {"mixed": "1.0"}


def test_the_project_itself_stays_in_the_app(project: Project) -> None:
    project.write("pyproject.toml", PYPROJECT)
    lock = project.resolve("pyproject.toml")
    assert [(own.name, own.version, own.path) for own in lock.editables] == [
        ("app", "1.2", project.root)
    ]


def test_an_editable_project_outside_the_app_is_built(project: Project) -> None:
    write_project(project.root.parent / "elsewhere", "elsewhere", "0.3")
    write_project(project.root / "inside", "inside", "0.4")
    lock = project.requirements("-e ../elsewhere\n-e ./inside\n")
    assert [(own.name, own.path.name) for own in lock.editables] == [("inside", "inside")]
    assert [(source.form, source.name) for source in lock.sources] == [("directory", "elsewhere")]
    assert lock.sources[0].requested


def test_uv_lock_is_read_without_an_index(
    project: Project, monkeypatch: pytest.MonkeyPatch, index: TinyIndex
) -> None:
    from uv import find_uv_bin

    project.write("pyproject.toml", PYPROJECT)
    env = {
        **os.environ,
        "UV_CACHE_DIR": str(project.cache.root / "uv"),
        "UV_PYTHON": sys.executable,
    }
    command = [find_uv_bin(), "lock", "--default-index", index.url, "--quiet"]
    subprocess.run(command, cwd=project.root, env=env, check=True)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    lock = project.resolve("uv.lock", extras=("wide",), offline=True)
    assert versions(lock) == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
    assert {wheel.name for wheel in lock.wheels if wheel.requested} >= {"alpha", "gamma"}
    assert versions(project.resolve("uv.lock", offline=True)) == {"alpha": "1.0"}
    assert not project.heard.warnings
    project.write("pyproject.toml", PYPROJECT.replace("alpha<2", "alpha>1"))
    assert versions(project.resolve("uv.lock", offline=True)) == {"alpha": "1.0"}
    assert any("asks for alpha>1, it has 1.0" in text for text in project.heard.warnings)


def test_an_unreachable_index_is_one_message(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:geheimnis@127.0.0.1:9/simple")
    with pytest.raises(ResolveError) as caught:
        project.requirements("alpha\n")
    assert "can't be reached: Connection refused" in caught.value.what
    assert caught.value.where == "http://127.0.0.1:9/simple/alpha/"
    assert "geheimnis" not in str(caught.value)


def test_offline_says_what_is_missing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ResolveError) as caught:
        project.requirements("\nalpha\n", offline=True)
    assert "without a network alpha can't be had" in caught.value.what
    assert caught.value.where == "requirements.txt:2"


def test_resolving_needs_no_python_of_the_targets_version(project: Project) -> None:
    project.write("requirements.txt", "delta\n")
    request = project.request(python="3.14", interpreter=Path(sys.executable))
    assert versions(resolve(request, cache=project.cache)) == {"delta": "1.0"}


def test_an_interrupt_ends_uv(project: Project, tmp_path: Path) -> None:
    """uv hangs on an index that accepts and never answers; Ctrl-C must end both."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        connected = threading.Event()
        held = []

        def hold() -> None:
            held.append(server.accept())
            connected.set()

        threading.Thread(target=hold, daemon=True).start()
        project.write("requirements.txt", "alpha\n")
        script = tmp_path / "ask.py"
        script.write_text(
            "import sys\nfrom pathlib import Path\n"
            "from dockyard.cache import Cache\n"
            "from dockyard.wheels.requirement import DependencySource\n"
            "from dockyard.wheels.resolve import ResolveRequest, resolve\n"
            "from dockyard.wheels.settings import gather_settings\n"
            "from dockyard.wheels.target import Target\n"
            "root = Path(sys.argv[1])\n"
            "resolve(ResolveRequest(source=DependencySource(kind='requirements.txt',"
            " path=root / 'requirements.txt'), target=Target(python='3.11', architecture='amd64',"
            " glibc='2.36'), root=root, settings=gather_settings(root)),"
            " cache=Cache(Path(sys.argv[2])))\n"
        )
        url = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        process = subprocess.Popen(
            [sys.executable, str(script), str(project.root), str(project.cache.root)],
            env={**os.environ, "PIP_INDEX_URL": url},
            stderr=subprocess.PIPE,
        )
        assert connected.wait(30)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert b"KeyboardInterrupt" in said
        connection = held[0][0]
        connection.settimeout(10)
        while connection.recv(4096):  # the request; then the end, as uv is gone
            pass
        deadline = time.monotonic() + 5
        while list((project.cache.root / "tmp").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not list((project.cache.root / "tmp").iterdir())
