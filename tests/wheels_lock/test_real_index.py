"""Resolution against the package index that this machine is configured for."""

from __future__ import annotations

from pathlib import Path

import pytest
from lock_project import Project, versions

from dockyard.cache import Cache
from dockyard.wheels.pylock import read_pylock, write_pylock
from dockyard.wheels.sdist import build_sources

pytestmark = pytest.mark.network


@pytest.fixture
def real(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    return Project(root, Cache(tmp_path / "cache"))


def test_numpy_is_resolved_for_both_architectures(real: Project) -> None:
    real.write("requirements.txt", "numpy==1.26.4\nclick>=8\n")
    locks = [real.resolve(architecture=name) for name in ("amd64", "arm64")]
    names = [next(w.filename for w in lock.wheels if w.name == "numpy") for lock in locks]
    assert "manylinux" in names[0]
    assert names[0].endswith("x86_64.whl")
    assert names[1].endswith("aarch64.whl")
    path = real.root / "pylock.toml"
    write_pylock(locks, path)
    assert read_pylock(path).versions["numpy"] == {"1.26.4"}
    assert real.resolve("pylock.toml", architecture="arm64").wheels == locks[1].wheels


def test_a_source_distribution_is_built_with_its_real_backend(real: Project) -> None:
    real.write("requirements.txt", "docopt==0.6.2\n")  # has never had a wheel
    lock = real.resolve()
    settings = real.request().settings
    built = build_sources(lock, settings=settings, cache=real.cache)
    assert versions(built) == {"docopt": "0.6.2"}
    assert built.wheels[0].filename.endswith("-none-any.whl")
