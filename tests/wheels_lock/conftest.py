"""A project folder and an index of its own for each test; nothing of this machine's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lock_project import Project
from tiny_index import TinyIndex

from dockyard.cache import Cache


@pytest.fixture
def index(tmp_path: Path) -> TinyIndex:
    index = TinyIndex(tmp_path / "index")
    index.wheel("alpha", "1.0")
    index.wheel("alpha", "2.0", requires=["beta>=2"])
    index.wheel("beta", "1.0")
    index.wheel("beta", "2.0")
    index.wheel("gamma", "1.0", requires=["beta<2", "delta; extra == 'more'"], extras=["more"])
    index.wheel("delta", "1.0", requires=["beta; python_version < '3.10'"])
    return index


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without anyone's pip or uv settings; returns its home folder."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name in ("VIRTUAL_ENV",):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(home / "etc"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return home


@pytest.fixture
def project(
    tmp_path: Path, bare: Path, index: TinyIndex, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """A project whose only index is `index`."""
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    root = tmp_path / "project"
    root.mkdir()
    return Project(root, Cache(tmp_path / "cache"))


@pytest.fixture
def host_architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


@pytest.fixture
def foreign_architecture(host_architecture: str) -> str:
    return {"amd64": "arm64", "arm64": "amd64"}[host_architecture]
