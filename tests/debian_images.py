"""Fixtures for tests with services: images of Debian's PostgreSQL and Prometheus, and a Compose."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dockyard.build.api import build_project
from dockyard.build.request import BuildRequest, Target
from dockyard.errors import FetchError

if TYPE_CHECKING:
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
def postgres_image(docker_engine: DockerEngine) -> str:
    """PostgreSQL, put together from Debian's packages by Dockyard itself."""
    return debian_image("postgres", docker_engine)


@pytest.fixture(scope="session")
def prometheus_image(docker_engine: DockerEngine) -> str:
    """Prometheus, put together from Debian's packages by Dockyard itself."""
    return debian_image("prometheus", docker_engine)


def debian_image(name: str, engine: DockerEngine) -> str:
    """Build tests/images/NAME unless the engine has it; skip where Debian can't be reached."""
    folder = ROOT / "tests" / "images" / name
    try:
        built = build_project(
            BuildRequest(folder=folder), targets=[Target(kind="docker")], engine=engine
        )
    except FetchError as error:
        pytest.skip(f"Debian's packages can't be had: {error.what}")
    return built.references[0]
