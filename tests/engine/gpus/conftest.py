"""A driver without a GPU: NVIDIA's library, compiled here with a settable number of devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_driver import compile_driver

if TYPE_CHECKING:
    from collections.abc import Callable

    Machine = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def driver_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for LD_LIBRARY_PATH with a libnvidia-ml.so.1."""
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def machine(driver_folder: Path, tmp_path: Path) -> Machine:
    """The environment of a machine with so many GPUs and its own file of leases."""

    def make(gpus: int, **settings: str) -> dict[str, str]:
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(driver_folder),
            "FAKE_GPUS": str(gpus),
            "DOCKYARD_GPU_LEASES": str(tmp_path / "leases.json"),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
            **settings,
        }

    return make
