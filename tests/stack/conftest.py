"""A Compose to check and run files with, and images to run, where they can be had."""

from __future__ import annotations

import pytest

from debian_images import compose_program, postgres_image, prometheus_image

__all__ = ["compose_env", "compose_program", "postgres_image", "prometheus_image"]


@pytest.fixture
def compose_env(compose_program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let Dockyard use that Compose."""
    monkeypatch.setenv("DOCKYARD_COMPOSE", compose_program)
    return compose_program
