"""pylock.toml: written, read back, and found stale."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from lock_project import Project, versions
from packaging.pylock import Pylock
from tiny_index import TinyIndex, write_project

from dockyard.errors import ResolveError
from dockyard.wheels.pylock import format_pylock, read_pylock, write_pylock
from dockyard.wheels.resolve import resolve
from dockyard.wheels.stale import loose_source, stale_reasons


def locked(project: Project, **more: object) -> Path:
    path = project.root / "pylock.toml"
    write_pylock(project.resolve(**more), path)
    return path


def test_what_is_written_is_valid_and_reads_back_the_same(project: Project) -> None:
    lock = project.requirements("gamma[more]\n")
    path = project.root / "pylock.toml"
    write_pylock(lock, path, extra={"base": {"suite": "bookworm", "packages": ["a=1"]}, "no": None})
    Pylock.from_dict(tomllib.loads(path.read_text()))
    again = project.resolve("pylock.toml")
    assert again.wheels == lock.wheels
    assert again.inputs == lock.inputs
    assert again.extra["base"] == {"suite": "bookworm", "packages": ["a=1"]}
    assert again.extra["platforms"] == ["linux/amd64"]
    assert "no" not in again.extra
    assert path.read_text().startswith("# Written by Dockyard")
    assert "dockyard lock --upgrade" in path.read_text()
    assert not project.heard.warnings
    write_pylock(again, path.with_name("pylock.again.toml"))
    assert path.with_name("pylock.again.toml").read_text() == path.read_text()


def test_writing_is_deterministic_with_and_without_the_cache(project: Project) -> None:
    first = format_pylock([project.requirements("alpha\ngamma[more]\nbeta<2\n")], project.root)
    kept = format_pylock([project.resolve()], project.root)
    assert kept == first
    assert "upload-time" not in first


def test_files_below_the_project_are_written_by_relative_path(project: Project) -> None:
    vendored = TinyIndex(project.root / "vendor").wheel("vendored", "1.0")
    lock = project.requirements("./vendor/files/vendored-1.0-py3-none-any.whl\nbeta\n")
    path = project.root / "pylock.toml"
    write_pylock(lock, path)
    packages = {package["name"]: package for package in tomllib.loads(path.read_text())["packages"]}
    assert packages["vendored"]["archive"]["path"] == "vendor/files/vendored-1.0-py3-none-any.whl"
    assert packages["vendored"]["archive"]["size"] == vendored.stat().st_size
    assert packages["beta"]["wheels"][0]["url"].startswith("file:///")
    again = project.resolve("pylock.toml")
    assert Path(again.wheels[1].url) == vendored
    assert again.wheels[1].direct_url["archive_info"]["hashes"]["sha256"] == again.wheels[1].sha256


def test_one_file_serves_several_platforms(project: Project, index: TinyIndex) -> None:
    index.wheel("both", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    index.wheel("both", "1.0", tag="cp311-cp311-manylinux_2_17_aarch64")
    index.wheel("moved", "2.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    index.wheel("moved", "1.0", tag="cp311-cp311-manylinux_2_17_aarch64")
    project.write("requirements.txt", "both\nmoved\nalpha ; platform_machine == 'aarch64'\n")
    locks = [project.resolve(architecture=name) for name in ("arm64", "amd64")]
    path = project.root / "pylock.toml"
    write_pylock(locks, path)
    assert format_pylock(locks[::-1], project.root) == path.read_text()
    amd64 = project.resolve("pylock.toml", architecture="amd64")
    arm64 = project.resolve("pylock.toml", architecture="arm64")
    assert amd64.wheels == locks[1].wheels
    assert arm64.wheels == locks[0].wheels
    assert versions(amd64) == {"both": "1.0", "moved": "2.0"}
    assert versions(arm64) == {"alpha": "2.0", "beta": "2.0", "both": "1.0", "moved": "1.0"}


@pytest.mark.parametrize(
    ("change", "request_more", "reason"),
    [
        pytest.param("alpha\n", {}, None, id="nothing"),
        pytest.param("# words\nalpha\n", {}, None, id="a comment"),
        pytest.param("alpha\ngamma\n", {}, "gamma (requirements.txt:2) isn't in it", id="new"),
        pytest.param("alpha<2\n", {}, "asks for alpha<2, it has 2.0", id="other version"),
        pytest.param("alpha>=1\n", {}, "requirements.txt has changed", id="looser"),
        pytest.param("alpha\n", {"python": "3.12"}, "made for Python 3.11", id="Python"),
        pytest.param("alpha\n", {"architecture": "arm64"}, "nothing for linux/arm64", id="machine"),
        pytest.param("alpha\n", {"glibc": "2.31"}, "made for glibc 2.36", id="older glibc"),
        pytest.param("alpha\n", {"glibc": "2.41"}, None, id="newer glibc"),
        pytest.param("alpha\n", {"accelerator": "cpu"}, 'accelerator = "auto"', id="accelerator"),
    ],
)
def test_a_stale_lock_says_why(
    project: Project, change: str, request_more: dict, reason: str | None
) -> None:
    project.write("requirements.txt", "alpha\n")
    lock_file = read_pylock(locked(project))
    project.write("requirements.txt", change)
    reasons = stale_reasons(lock_file, project.request(**request_more))
    if reason is None:
        assert reasons == []
    else:
        assert reason in "; ".join(reasons)


def test_a_stale_lock_is_named_and_the_requirements_resolved(
    project: Project, index: TinyIndex
) -> None:
    project.write("requirements.txt", "alpha\n")
    locked(project)
    index.wheel("alpha", "3.0")
    index.wheel("beta", "3.0")
    project.write("requirements.txt", "alpha\ngamma\n")
    with pytest.raises(ResolveError, match="contradict"):
        project.requirements("alpha==2.0\ngamma\n")
    project.write("requirements.txt", "alpha\ndelta\n")
    lock = project.resolve("pylock.toml")
    # What still fits keeps its version.
    assert versions(lock) == {"alpha": "2.0", "beta": "2.0", "delta": "1.0"}
    assert "pylock.toml isn't current: delta (requirements.txt:2) isn't in it" in (
        project.heard.warnings
    )


def test_another_tools_lock_is_used_while_it_meets_the_requirements(
    project: Project, index: TinyIndex
) -> None:
    wheel = index.root / "files" / "alpha-1.0-py3-none-any.whl"
    import hashlib

    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    project.write(
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "other"\n\n[[packages]]\nname = "alpha"\n'
        f'version = "1.0"\nwheels = [{{url = "{wheel.as_uri()}", '
        f'hashes = {{sha256 = "{sha256}"}}}}]\n',
    )
    project.write("requirements.txt", "alpha<2\n")
    assert versions(project.resolve("pylock.toml")) == {"alpha": "1.0"}
    assert not project.heard.warnings
    project.write("requirements.txt", "alpha>1\n")
    assert versions(project.resolve("pylock.toml")) == {"alpha": "2.0", "beta": "2.0"}
    assert any("asks for alpha>1, it has 1.0" in text for text in project.heard.warnings)


def test_a_lock_alone_is_enough(project: Project) -> None:
    project.write("requirements.txt", "alpha\n")
    path = locked(project)
    (project.root / "requirements.txt").unlink()
    assert loose_source(read_pylock(path), project.root) is None
    assert versions(project.resolve("pylock.toml")) == {"alpha": "2.0", "beta": "2.0"}


@pytest.mark.parametrize(
    ("more", "what"),
    [
        pytest.param({"python": "3.12"}, "the lock is for Python ==3.11.*", id="Python"),
        pytest.param({"architecture": "arm64"}, "isn't for linux/arm64", id="machine"),
    ],
)
def test_a_lock_for_something_else_is_refused(project: Project, more: dict, what: str) -> None:
    project.write("requirements.txt", "alpha\n")
    locked(project)
    (project.root / "requirements.txt").unlink()
    with pytest.raises(ResolveError) as caught:
        project.resolve("pylock.toml", **more)
    assert what in caught.value.what
    assert "dockyard lock" in (caught.value.hint or "")


def test_a_locked_wheel_that_is_gone_is_named(project: Project, index: TinyIndex) -> None:
    project.write("requirements.txt", "beta<2\n")
    locked(project)
    (index.root / "files" / "beta-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ResolveError, match="the wheel of beta can't be read"):
        project.resolve("pylock.toml")


def test_upgrade_takes_the_newest(project: Project, index: TinyIndex) -> None:
    project.write("requirements.txt", "beta\n")
    path = locked(project)
    index.wheel("beta", "3.0")
    assert versions(project.resolve("pylock.toml")) == {"beta": "2.0"}
    assert versions(project.resolve("pylock.toml", upgrade=True)) == {"beta": "3.0"}
    kept = resolve(project.request(), cache=project.cache, prefer=read_pylock(path))
    assert versions(kept) == {"beta": "2.0"}


def test_the_project_itself_stays_in_the_app_with_a_lock_too(project: Project) -> None:
    project.write(
        "pyproject.toml", '[project]\nname = "own"\nversion = "1"\ndependencies = ["alpha"]\n'
    )
    lock = project.resolve("pyproject.toml")
    write_pylock(lock, project.root / "pylock.toml")
    again = project.resolve("pylock.toml")
    assert again.editables == lock.editables
    assert [own.name for own in again.editables] == ["own"]
    assert again.wheels == lock.wheels


def test_local_projects_stay_relative_in_the_lock(project: Project) -> None:
    write_project(project.root / "libs" / "inside", "inside", "0.4")
    project.write("requirements.txt", "-e ./libs/inside\n")
    path = locked(project)
    package = tomllib.loads(path.read_text())["packages"][0]
    assert package["directory"] == {"path": "libs/inside", "editable": True}
    again = project.resolve("pylock.toml")
    assert again.editables[0].path == project.root / "libs" / "inside"
