"""Whole builds: from a folder to an image, on a real Debian base and an index made on the spot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from build_ground import APP, Ground

from dockyard.oci.archive import read_archive
from dockyard.oci.layout import read_layout
from dockyard.oci.tree import list_layer, read_tree
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.network


def test_a_project_without_configuration_becomes_a_valid_image(ground: Ground) -> None:
    code, out, err = ground.build(
        "-o",
        f"oci:{ground.layout()}",
        "-o",
        f"archive:{ground.out / 'image.tar'}",
        "-t",
        "digits:1",
    )
    assert code == 0, err
    assert "Built digits:1" in out
    image = read_layout(ground.layout())
    assert verify_image(image) == []
    assert read_archive(ground.out / "image.tar").digest == image.digest
    tree = read_tree(image)
    site = "opt/venv/lib/python3.13/site-packages"
    assert tree.read(f"{site}/alpha/__init__.py") == b"__version__ = '1.0'\n"
    assert tree.read("app/app.py") == APP.encode()
    assert f"{site}/alpha/__pycache__/__init__.cpython-313.pyc" in tree.files
    assert "usr/bin/python3.13" in tree.files
    config = image.config
    assert config.cmd == ("python", "app.py")
    assert config.user == "10001"
    assert config.exposed_ports == ("8080/tcp",)
    assert config.working_dir == "/app"
    assert config.healthcheck is not None
    assert config.env["PATH"].startswith("/opt/venv/bin:")
    assert "LD_LIBRARY_PATH" not in config.env


def test_the_plan_says_what_the_code_imports_and_no_package_brings(ground: Ground) -> None:
    (ground.project / "app.py").write_text("import pandas\n" + APP)
    code, _, err = ground.build("--dry-run")
    assert code == 0
    assert "app.py:1 imports what the package pandas has" in " ".join(err.split())
    assert "alpha has" not in err


def test_the_plan_says_what_and_why_and_builds_nothing(ground: Ground) -> None:
    code, out, _ = ground.build("--dry-run", "--json")
    assert code == 0
    (plan,) = json.loads(out)["images"]
    assert [layer["kind"] for layer in plan["layers"]] == ["base", "wheels", "bytecode", "app"]
    assert all(layer["why"] for layer in plan["layers"])
    decisions = {item["subject"]: item for item in plan["decisions"]}
    assert decisions["python"]["value"] == "3.13"
    assert "newest" in decisions["python"]["why"]
    assert decisions["command"]["value"] == "python app.py"
    assert not ground.out.exists()
    (ground.project / "app.py").write_text(APP + f"# {ground.project}\n")
    _, out, _ = ground.build("--dry-run", "--json")
    assert json.loads(out)["images"][0]["layers"][-1]["cached"] is False
    ground.digest()
    _, out, _ = ground.build("--dry-run", "--json")
    assert all(layer["cached"] for layer in json.loads(out)["images"][0]["layers"])
    code, out, _ = ground.build("--dry-run")
    assert code == 0
    assert "2 small wheels" in out


def test_changed_code_changes_the_last_layer_only(ground: Ground) -> None:
    ground.digest("before")
    (ground.project / "app.py").write_text(APP + "# changed\n")
    ground.digest("after")
    before = [layer.diff_id for layer in read_layout(ground.layout("before")).layers]
    after = [layer.diff_id for layer in read_layout(ground.layout("after")).layers]
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def test_compression_and_bytecode_are_as_asked_for(ground: Ground) -> None:
    ground.digest("zstd", "--compression", "zstd", "--bytecode", "none")
    image = read_layout(ground.layout("zstd"))
    assert verify_image(image) == []
    assert all(layer.descriptor.media_type.endswith("+zstd") for layer in image.layers)
    assert not any(path.endswith(".pyc") for path in read_tree(image).files)
    ground.digest("gzip", "--bytecode", "none")
    plain = read_layout(ground.layout("gzip"))
    assert [layer.diff_id for layer in plain.layers] == [layer.diff_id for layer in image.layers]


def test_another_image_can_be_the_base_and_is_read_once(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground.project / "requirements.txt").write_text("beta\n")
    ground.digest("below", "--bytecode", "none")
    (ground.project / "requirements.txt").write_text("alpha\n")
    # A path in the configuration starts where the configuration is.
    (ground.project / "dockyard.toml").write_text('base = "oci:../out/below"\n')
    first = ground.digest("above")
    below, above = read_layout(ground.layout("below")), read_layout(ground.layout("above"))
    assert [layer.descriptor.digest for layer in above.layers[: len(below.layers)]] == [
        layer.descriptor.digest for layer in below.layers
    ]
    assert verify_image(above) == []
    added = [layer.created_by.split()[1] for layer in above.layers[len(below.layers) :]]
    assert added == ["python", "wheels", "bytecode", "app"]
    pycs = list_layer(above.layers[-2])
    assert "opt/venv/lib/python3.13/site-packages/alpha/__pycache__/__init__.cpython-313.pyc" in (
        pycs
    )
    assert "usr/lib/python3.13/http/__pycache__/server.cpython-313.pyc" in pycs
    # Warm builds read none of the base's layers.
    monkeypatch.setattr("dockyard.oci.tree.open_tar", None)
    assert ground.digest("again") == first
    assert ground.digest("here", "--base", f"oci:{ground.layout('below')}") != first


def _python(project: Path, out: Path, cache: Path, *, program: str, **env: str) -> str:
    """Build in a process of its own, in an environment of its own; return the digest."""
    command = [sys.executable, "-c", program, "build", project, "--json", "-o", f"oci:{out}"]
    result = subprocess.run(
        command,
        env={**os.environ, "DOCKYARD_CACHE": str(cache), **env},
        capture_output=True,
        text=True,
        check=False,
        cwd=out.parent,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["digest"]


PLAIN = "from dockyard.cli.main import main; main()"
WITHOUT_ISAL = "import sys; sys.modules['isal'] = None; " + PLAIN
UNDER_A_STRICT_UMASK = "import os; os.umask(0o077); " + PLAIN


def _fresh_cache(root: Path, shared: Path) -> Path:
    """A cache that has the session's downloads, and nothing else of it."""
    root.mkdir()
    shutil.copytree(shared / "blobs", root / "blobs", symlinks=False)
    return root


def test_the_digest_depends_on_nothing_but_the_project(
    ground: Ground, tmp_path: Path, cache_root: Path
) -> None:
    expected = ground.digest()
    # Resolutions stay (another day's index may have more); layers, bytecode and hashes don't.
    elsewhere = tmp_path / "another" / "folder"
    shutil.copytree(ground.project, elsewhere / "project")
    os.utime(elsewhere / "project" / "app.py", (1, 1))
    cache = _fresh_cache(tmp_path / "cache2", cache_root)
    environment = {
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "LANG": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "7",
        "HOME": str(elsewhere),
    }
    again = _python(
        elsewhere / "project",
        elsewhere / "out",
        cache,
        program=UNDER_A_STRICT_UMASK,
        **environment,
    )
    assert again == expected
    other = _fresh_cache(tmp_path / "cache3", cache_root)
    assert _python(ground.project, tmp_path / "out3", other, program=WITHOUT_ISAL) == expected


def test_source_date_epoch_is_the_time_of_creation(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ground.digest("plain")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert ground.digest("dated") != plain
    image = read_layout(ground.layout("dated"))
    assert image.config.created == "2023-11-14T22:13:20Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    code, _, err = ground.build("-o", f"oci:{ground.layout()}")
    assert code == 1
    assert "SOURCE_DATE_EPOCH" in err


def _refused(ground: Ground, *args: object) -> str:
    """Build, which must fail with one message and leave nothing; return the message."""
    code, out, err = ground.build("-o", f"oci:{ground.layout()}", *args)
    assert code in (1, 2), (out, err)
    assert "Traceback" not in err
    assert err.count("error:") == 1
    assert not ground.layout().exists() or not any(ground.layout().iterdir())
    return err


def test_a_folder_without_a_project_is_one_clear_error(ground: Ground, tmp_path: Path) -> None:
    code, _, err = ground.run("build", tmp_path / "nowhere")
    assert code in (1, 2)
    assert "nowhere" in err
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _, err = ground.run("build", empty, "-o", f"oci:{ground.layout()}")
    assert code == 1
    assert "there is no project here" in err


def test_a_requirement_that_does_not_exist_is_named_with_its_line(ground: Ground) -> None:
    (ground.project / "requirements.txt").write_text("alpha\nno-such-thing\n")
    err = _refused(ground)
    assert "no-such-thing" in err
    assert "requirements.txt:2" in err


def test_conflicting_pins_are_named(ground: Ground) -> None:
    ground.index.wheel("gamma", "1.0", requires=["beta<2"])
    (ground.project / "requirements.txt").write_text("alpha\ngamma\nbeta==2.0\n")
    err = _refused(ground)
    assert "gamma" in err
    assert "beta" in err


def test_a_python_that_the_base_has_not_is_refused_with_those_it_has(ground: Ground) -> None:
    (ground.project / ".python-version").write_text("3.9\n")
    err = _refused(ground)
    assert "3.9" in err
    assert "3.11" in err
    assert "3.13" in err


def test_a_wheel_for_a_newer_glibc_is_refused(ground: Ground) -> None:
    ground.index.wheel("tomorrow", "1.0", tag="cp313-cp313-manylinux_2_99_x86_64")
    ground.index.wheel("tomorrow", "1.0", tag="cp313-cp313-manylinux_2_99_aarch64")
    (ground.project / "requirements.txt").write_text("tomorrow\n")
    (ground.project / ".python-version").write_text("3.13\n")
    err = _refused(ground)
    assert "tomorrow" in err
    assert "2_99" in err or "glibc" in err


def test_an_sdist_with_compiled_code_is_refused_for_a_foreign_platform(ground: Ground) -> None:
    foreign = {"x86_64": "arm64", "aarch64": "amd64"}[os.uname().machine]
    machine = {"arm64": "aarch64", "amd64": "x86_64"}[foreign]
    ground.index.sdist("built", "1.0", tag=f"cp313-cp313-linux_{machine}")
    (ground.project / "requirements.txt").write_text("built\n")
    (ground.project / ".python-version").write_text("3.13\n")
    err = _refused(ground, "--platform", foreign)
    assert "built" in err


def test_wheels_whose_files_clash_are_named_and_one_can_be_preferred(ground: Ground) -> None:
    ground.index.wheel("one", "1.0", files={"shared.py": "who = 'one'\n"})
    ground.index.wheel("two", "1.0", files={"shared.py": "who = 'two'\n"})
    (ground.project / "requirements.txt").write_text("alpha\none\ntwo\n")
    err = _refused(ground)
    assert "one and two" in err
    assert "shared.py" in err
    (ground.project / "dockyard.toml").write_text('prefer = ["two"]\n')
    ground.digest()
    site = "opt/venv/lib/python3.13/site-packages"
    tree = read_tree(read_layout(ground.layout()))
    assert tree.read(f"{site}/shared.py") == b"who = 'two'\n"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("../../etc/evil", r"climbs|unsafe|outside"), ("/etc/evil", r"absolute|unsafe")],
)
def test_a_wheel_that_climbs_out_is_refused(ground: Ground, path: str, reason: str) -> None:
    ground.index.wheel("evil", "1.0", files={path: "x"})
    (ground.project / "requirements.txt").write_text("evil\n")
    err = _refused(ground)
    assert "evil" in err


def test_a_tampered_wheel_is_refused(ground: Ground) -> None:
    assert ground.run("lock", ground.project)[0] == 0
    (wheel,) = (ground.index.root / "files").glob("beta-*.whl")
    data = bytearray(wheel.read_bytes())
    data[60] ^= 1
    wheel.write_bytes(data)
    err = _refused(ground, "--locked")
    assert "beta" in err
    assert "SHA-256" in err or "hash" in err


def test_a_truncated_wheel_is_refused(ground: Ground) -> None:
    assert ground.run("lock", ground.project)[0] == 0
    (wheel,) = (ground.index.root / "files").glob("beta-*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-40])
    assert "beta" in _refused(ground, "--locked")


def test_a_lock_pins_until_it_is_stale_and_says_so(ground: Ground) -> None:
    code, out, err = ground.run("lock", ground.project)
    assert code == 0, err
    assert "2 packages" in out
    ground.index.wheel("alpha", "1.5", requires=["beta"])
    _, plan, _ = ground.build("--dry-run", "--json", "--locked")
    assert "alpha 1.0" in json.dumps(json.loads(plan)["images"])
    (ground.project / "requirements.txt").write_text("alpha\nbeta>=2\n")
    err = _refused(ground, "--locked")
    assert "isn't current" in err
    code, _, err = ground.build("-o", f"oci:{ground.layout()}")
    assert code == 0
    assert "pylock.toml isn't current" in err
    assert ground.run("lock", ground.project, "--check")[0] == 1
    assert ground.run("lock", ground.project)[0] == 0
    assert ground.run("lock", ground.project, "--check")[0] == 0


def test_locked_without_a_lock_is_an_error(ground: Ground) -> None:
    assert "dockyard lock" in _refused(ground, "--locked")


def test_everything_cached_needs_no_network_and_missing_things_are_named(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ground.digest("online")
    assert ground.digest("offline", "--offline") == expected
    monkeypatch.setenv("DOCKYARD_CACHE", str(tmp_path / "empty-cache"))
    err = _refused(ground, "--offline")
    assert "offline" in err or "cached" in err


def test_a_full_disk_is_one_clear_error_and_the_next_build_is_right(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ground.digest("expected")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small file system can't be mounted here")
    try:
        monkeypatch.setenv("DOCKYARD_CACHE", str(small))
        err = _refused(ground)
        assert "No space left" in err
        subprocess.run(["mount", "-o", "remount,size=1g", str(small)], check=True)
        assert ground.digest("after") == expected
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_build_killed_at_any_time_harms_no_later_one(
    ground: Ground, tmp_path: Path, cache_root: Path
) -> None:
    expected = ground.digest("expected")
    cache = _fresh_cache(tmp_path / "killed", cache_root)
    for delay in (0.4, 0.8, 1.3, 2.0):
        child = subprocess.Popen(
            [sys.executable, "-c", PLAIN, "build", ground.project, "-o", f"oci:{tmp_path}/k"],
            env={**os.environ, "DOCKYARD_CACHE": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert _python(ground.project, tmp_path / "k", cache, program=PLAIN) == expected
    assert verify_image(read_layout(tmp_path / "k")) == []


def test_two_builds_at_once_in_one_cache_agree(
    ground: Ground, tmp_path: Path, cache_root: Path
) -> None:
    cache = _fresh_cache(tmp_path / "both", cache_root)
    children = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", PLAIN, "build", ground.project, "--json"),
                *("-o", f"oci:{tmp_path}/out{number}"),
            ],
            env={**os.environ, "DOCKYARD_CACHE": str(cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    digests = set()
    for child in children:
        out, err = child.communicate(timeout=300)
        assert child.returncode == 0, err
        digests.add(json.loads(out)["digest"])
    assert len(digests) == 1


def _find_python(minor: str) -> str | None:
    """A working interpreter of this version: on the PATH, or one that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{minor}"), *kept.glob(f"{minor}.*/bin/python{minor}")]
    for program in filter(None, found):
        asked = subprocess.run([program, "--version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return str(program)
    return None


@pytest.mark.slow
def test_another_python_makes_the_same_image(
    ground: Ground, tmp_path: Path, cache_root: Path
) -> None:
    import uv

    expected = ground.digest("expected")
    other = "3.13" if sys.version_info[:2] != (3, 13) else "3.12"
    tool = uv.find_uv_bin()
    program = _find_python(other)
    if program is None:
        pytest.skip(f"there is no Python {other} on this machine")
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    venv = tmp_path / "venv"
    for command in (
        [tool, "venv", "-q", "--python", program, str(venv)],
        [tool, "pip", "install", "-q", "--python", str(venv / "bin/python"), str(root)],
    ):
        made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if made.returncode:
            pytest.skip(f"Dockyard can't be installed for Python {other}: {made.stderr[-200:]}")
    cache = _fresh_cache(tmp_path / "other", cache_root)
    result = subprocess.run(
        [
            *(venv / "bin/dockyard", "build", ground.project, "--json"),
            *("-o", f"oci:{tmp_path}/other-image"),
        ],
        env={**os.environ, "DOCKYARD_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["digest"] == expected


def test_inspect_and_diff_say_what_an_image_is_and_what_changed(ground: Ground) -> None:
    ground.digest("one")
    ground.index.wheel("alpha", "1.5", requires=["beta"])
    (ground.project / "requirements.txt").write_text("alpha==1.5\n")
    (ground.project / "app.py").write_text(APP + "# changed\n")
    (ground.project / "dockyard.toml").write_text('env = { MODE = "fast" }\n')
    ground.digest("two")
    one, two = f"oci:{ground.layout('one')}", f"oci:{ground.layout('two')}"
    code, out, _ = ground.run("inspect", two, "--packages")
    assert code == 0
    assert "base, trixie" in out
    assert "application code" in out
    assert "alpha" in out
    code, out, _ = ground.run("diff", one, two, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["packages"] == {"alpha": {"before": "1.0", "after": "1.5"}}
    assert found["env"] == {"MODE": {"before": None, "after": "fast"}}
    assert "app/app.py" in found["files"]
    code, out, _ = ground.run("diff", one, two)
    assert code == 0
    assert "~ alpha  1.0 -> 1.5" in out
    code, out, _ = ground.run("diff", one, one)
    assert "No difference" in out
    code, _, err = ground.run("inspect", "oci:nowhere")
    assert code == 1
    assert "nowhere" in err


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not [path for path in tmp_path.rglob("*.partial") if path.is_file()]
