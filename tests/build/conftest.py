"""Fixtures of the build room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from build_ground import Ground, make_ground
from local_base import ARCHITECTURE, PYTHON, make_base

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
