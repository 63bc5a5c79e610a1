"""The empty venv, built on disk and run by real interpreters."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from wheel_maker import make_wheel, write_tree

from dockyard.wheels.install import Venv, install_wheel, venv_entries

PROBE = """
import json, site, sys, sysconfig, demo
print(json.dumps({
    "prefix": sys.prefix, "base": sys.base_prefix, "demo": demo.__file__, "path": sys.path,
    "paths": sysconfig.get_paths(), "user": site.ENABLE_USER_SITE, "hook": sys.hooked,
}))
"""


def _interpreters() -> list[str]:
    found = [f"/usr/bin/python3.{minor}" for minor in (11, 12, 13, 14)]
    for minor in (11, 12, 13):
        found += sorted(str(p) for p in Path("~/.pyenv/versions").expanduser().glob(
            f"3.{minor}.*/bin/python3.{minor}"))[:1]  # fmt: skip
    return [path for path in found if Path(path).exists()] or [
        str(Path(shutil.which("python3") or "/usr/bin/python3").resolve())
    ]


@pytest.mark.parametrize("base", _interpreters())
def test_a_real_interpreter_takes_it_as_its_venv(tmp_path: Path, base: str) -> None:
    version = base.rpartition("python")[2]
    root = tmp_path / "venv"
    venv = Venv(root=str(root).lstrip("/"), python=version)
    wheel = make_wheel(
        tmp_path,
        {
            "demo/__init__.py": b"",
            "hook.pth": b"import sys; sys.hooked = True\n",
            "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nv = platform:machine\n",
        },
    )
    write_tree(venv_entries(venv, base_python=base), Path("/"))
    write_tree(install_wheel(wheel, venv, requested=True).entries, Path("/"))
    for name in ("python", "python3", f"python{version}"):
        done = subprocess.run(
            [root / "bin" / name, "-c", PROBE], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        site_packages = f"{root}/lib/python{version}/site-packages"
        assert seen["prefix"] == str(root)
        assert seen["base"] != str(root)
        assert seen["demo"] == f"{site_packages}/demo/__init__.py"
        assert seen["hook"] is True
        assert seen["user"] is False
        assert not any("dist-packages" in path for path in seen["path"])
        schemes = venv.schemes("demo")
        for key in ("purelib", "platlib", "scripts", "data"):
            assert seen["paths"][key] == "/" + schemes[key]
    done = subprocess.run([root / "bin" / "v"], capture_output=True, check=False)
    assert done.stderr  # sys.exit("x86_64") prints it there


def test_the_links_lead_to_debians_python_by_default() -> None:
    entries = {entry.path: entry for entry in venv_entries(Venv(python="3.13"), version="3.13.5")}
    assert entries["opt/venv/bin/python"].target == "/usr/bin/python3.13"
    assert entries["opt/venv/bin/python3"].target == "python"
    assert entries["opt/venv/bin/python3.13"].target == "python"
    assert entries["opt/venv/lib64"].target == "lib"
    source = entries["opt/venv/pyvenv.cfg"].source
    assert source is not None
    config = b"".join(source.chunks()).decode()
    assert config == (
        "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13.5\n"
        "executable = /usr/bin/python3.13\n"
    )
    assert Venv(python="3.13").own_paths <= set(entries)
