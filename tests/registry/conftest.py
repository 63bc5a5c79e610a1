"""Fixtures of the registries' tests: Debian's registry on loopback, small images, no waiting."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from registry_server import PROGRAM, Server, registry_server

from dockyard.oci.registry.attempts import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Debian's docker-registry, plain, without logins, that allows deleting."""
    if shutil.which(PROGRAM) is None:
        pytest.skip("docker-registry isn't installed")
    with registry_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def impatient() -> Patience:
    """Tries as often as usual, without long pauses."""
    return Patience(first_pause=0.001, longest_pause=0.05, stop=threading.Event())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder: no logins, no settings."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    return folder
