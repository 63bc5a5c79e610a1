"""A Compose to check and run files with, where one can be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
