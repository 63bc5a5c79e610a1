"""A base to compile with: the running Python, laid out as a root file system would be."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dockyard.build.host import why_not_runnable

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def make_base(root: Path) -> None:
    """Fill `root` with the running Python, its loader and libraries; skip where that can't be."""
    if reason := why_not_runnable(ARCHITECTURE):
        pytest.skip(reason)
    program = Path(sys.base_prefix, "bin", f"python{PYTHON}")
    if not program.exists():
        pytest.skip(f"no {program}")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    libraries = [word for word in listed.stdout.split() if word.startswith("/")]
    if not any("ld-linux" in name for name in libraries):
        pytest.skip("the running Python isn't linked with glibc dynamically")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/lib").mkdir()
    shutil.copy(program.resolve(), root / "usr/bin" / f"python{PYTHON}.real")
    # As in a container image: an absolute link, meant inside the root.
    (root / f"usr/bin/python{PYTHON}").symlink_to(f"/usr/bin/python{PYTHON}.real")
    (root / "lib").symlink_to("usr/lib")
    for name in libraries:
        shutil.copy(name, root / "usr/lib")
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        root / f"usr/lib/python{PYTHON}",
        ignore=shutil.ignore_patterns(
            "__pycache__", "test", "tests", "site-packages", "*-linux-gnu"
        ),
    )
