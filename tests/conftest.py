"""Fixtures for every room: a cache of the tests' own, an engine if one answers, the network.

A test that needs Docker or the package index says so with a marker; it is skipped, with the
reason shown, where there is none. What the tests leave in an engine is removed by its label.
"""

from __future__ import annotations

import functools
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.docker import DockerEngine

TEST_LABEL = "dockyard.test"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, and all that use a Podman of their own in the same one.

    Two Podmans at once take each other's rules out of the machine's one packet filter.
    """
    for item in items:
        with_podman = "ground" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("engines" if with_podman else str(item.path)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine can't run; asked once, and only when a test needs it."""
    if item.get_closest_marker("docker") and (reason := why_no_engine()):
        pytest.skip(reason)
    if item.get_closest_marker("network") and (reason := why_no_index()):
        pytest.skip(reason)
    if item.get_closest_marker("gpu") and (reason := why_no_gpu()):
        pytest.skip(reason)


@functools.cache
def why_no_engine() -> str:
    """Why no container engine can be used, or ""."""
    from dockyard.engine.connect import find_engine
    from dockyard.errors import EngineError

    try:
        find_engine({**os.environ, "DOCKYARD_ENGINE": "docker"})
    except EngineError as error:
        return f"{error.what}: {error.where or (error.hint or '').splitlines()[-1]}"
    return ""


@functools.cache
def why_no_gpu() -> str:
    """Why no NVIDIA GPU can be used, or ""."""
    from dockyard.engine.gpus.inventory import read_inventory
    from dockyard.errors import EngineError

    try:
        return "" if read_inventory().gpus else "the NVIDIA driver sees no GPU"
    except EngineError as error:
        return error.what


@functools.cache
def why_no_index() -> str:
    """Why the package index that pip is configured for can't be reached, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        # Found links would answer without the index; the package is 11 kB.
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir"]
        command += ["--timeout", "10", "--retries", "0", "-d", folder, "six"]
        environment = {k: v for k, v in os.environ.items() if k != "PIP_FIND_LINKS"}
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)
        except subprocess.CalledProcessError:
            return "the package index can't be reached"
        except subprocess.TimeoutExpired:
            return "the package index doesn't answer in time"
    return ""


@pytest.fixture(scope="session", autouse=True)
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's own cache folder, which DOCKYARD_CACHE names.

    With DOCKYARD_TEST_CACHE set, downloads are kept there for the next session; records aren't.
    """
    root = tmp_path_factory.mktemp("cache")
    if shared := os.environ.get("DOCKYARD_TEST_CACHE"):
        # Both, because a blob is moved from one to the other within one file system.
        for name in ("blobs", "tmp"):
            kept = Path(shared).absolute() / name
            kept.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKYARD_CACHE", str(root))
        yield root


@pytest.fixture(scope="session")
def session_label() -> str:
    """A label, "name=value"; what has it in the engine is removed when the session ends."""
    return f"{TEST_LABEL}={secrets.token_hex(8)}"


@pytest.fixture(scope="session")
def docker_engine(session_label: str) -> Iterator[DockerEngine]:
    """The engine that answers; afterwards what has the session's label is removed."""
    if reason := why_no_engine():
        pytest.skip(reason)
    from dockyard.engine.connect import find_engine

    engine = find_engine({**os.environ, "DOCKYARD_ENGINE": "docker"})
    assert engine.info.kind != "local"
    yield engine
    for state in engine.containers(label=session_label):
        engine.remove(state.id, force=True)
    name, _, value = session_label.partition("=")
    for image in engine.images():
        if image.labels.get(name) == value:
            engine.remove_image(image.id, force=True)
