"""Fixtures of the build room."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from build_ground import Ground, make_ground
from local_base import ARCHITECTURE, PYTHON, make_base
from lock_project import Heard

from dockyard.build.bytecode import BasePython, find_base_python
from dockyard.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def base_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base that holds the running Python."""
    root = tmp_path_factory.mktemp("base")
    make_base(root)
    return root


@pytest.fixture
def base(base_root: Path) -> BasePython:
    return find_base_python(base_root, python=PYTHON, architecture=ARCHITECTURE)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ground:
    return make_ground(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def numpy_wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real wheel that is large enough for a layer of its own, for each architecture."""
    folder = tmp_path_factory.mktemp("numpy")
    found = {}
    for architecture, machine in (("amd64", "x86_64"), ("arm64", "aarch64")):
        command = [*(sys.executable, "-m", "pip", "download", "-q", "--no-deps")]
        command += ["--only-binary", ":all:", "--python-version", "3.13"]
        command += ["--platform", f"manylinux2014_{machine}", "-d", str(folder), "numpy==2.2.6"]
        subprocess.run(command, check=True, capture_output=True)
        (found[architecture],) = folder.glob(f"*{machine}.whl")
    return found


@pytest.fixture
def heard() -> Heard:
    return Heard()
