"""A driver without a GPU: how its library is compiled, and the command line on such a machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


def compile_driver(folder: Path) -> Path:
    """Put a libnvidia-ml.so.1 in the folder, which is one for LD_LIBRARY_PATH."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here (Debian's packages gcc and libc6-dev)")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o"]
    subprocess.run([*command, folder / "libnvidia-ml.so.1", SOURCE], check=True)
    return folder


def dockyard(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, whose loader finds the driver."""
    command = [sys.executable, "-m", "dockyard", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def listed(env: dict[str, str]) -> dict[str, Any]:
    """What `dockyard gpus --json` prints."""
    done = dockyard("gpus", "--json", env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
