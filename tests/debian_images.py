"""Fixtures for tests with services: images of Debian's PostgreSQL and Prometheus, and a Compose."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dockyard.build.api import build_project
from dockyard.build.request import BuildRequest, Target
from dockyard.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.docker import DockerEngine

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def compose_program() -> str:
    """The path of docker-compose v2; the test is skipped, with the reason, where there is none."""
    done = subprocess.run(
        [ROOT / "scripts" / "docker-compose"], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def postgres_image(docker_engine: DockerEngine) -> Iterator[str]:
    """PostgreSQL, put together from Debian's packages by Dockyard itself."""
    with debian_image("postgres", "17", docker_engine) as image:
        yield image


@pytest.fixture(scope="session")
def prometheus_image(docker_engine: DockerEngine) -> Iterator[str]:
    """Prometheus, put together from Debian's packages by Dockyard itself."""
    with debian_image("prometheus", "2", docker_engine) as image:
        yield image


@contextmanager
def debian_image(name: str, tag: str, engine: DockerEngine) -> Iterator[str]:
    """Build tests/images/NAME under a name of this session's; skip where Debian isn't reached."""
    folder = ROOT / "tests" / "images" / name
    request = BuildRequest(
        folder=folder, tags=(f"dockyard-test-{secrets.token_hex(4)}/{name}:{tag}",)
    )
    try:
        built = build_project(request, targets=[Target(kind="docker")], engine=engine)
    except FetchError as error:
        pytest.skip(f"Debian's packages can't be had: {error.what}")
    yield built.references[0]
    engine.remove_image(built.references[0], force=True)
