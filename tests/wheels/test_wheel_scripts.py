"""Entry points: parsing, pip's special cases, and the scripts themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dockyard.errors import WheelError
from dockyard.wheels.scripts import (
    EntryPoint,
    EntryPoints,
    is_wrapper,
    parse_entry_points,
    plan_scripts,
    script_text,
    shebang,
)

TEXT = """
# a comment
[other.group]
ignored = a:b

[console_scripts]
  one = pkg.mod:main
two=pkg:Class.method [extra,more]
one = pkg.mod:second

[gui_scripts]
win = pkg:gui
"""


def _names(points: dict[str, str], python: str = "3.11") -> list[str]:
    entry_points = EntryPoints(console=points, gui={})
    return sorted(point.name for point in plan_scripts(entry_points, python=python, where="x.whl"))


def test_reads_both_groups_and_the_later_line_wins() -> None:
    assert parse_entry_points(TEXT, where="x.whl") == EntryPoints(
        console={"one": "pkg.mod:second", "two": "pkg:Class.method [extra,more]"},
        gui={"win": "pkg:gui"},
    )


def test_pip_and_easy_install_get_the_versions_of_the_images_python() -> None:
    points = {"pip": "pip:main", "pip3": "pip:main", "pip3.8": "pip:main", "pipx": "x:y"}
    assert _names(points, "3.13") == ["pip", "pip3", "pip3.13", "pipx"]
    points = {"easy_install": "e:main", "easy_install-3.8": "e:main", "easy_install_x": "x:y"}
    assert _names(points) == ["easy_install", "easy_install-3.11", "easy_install_x"]
    assert _names({"pip3": "pip:main"}) == ["pip3"]


@pytest.mark.parametrize(
    ("value", "module", "first", "call"),
    [
        ("pkg:main", "pkg", "main", "main"),
        ("pkg.a_b.c:Class.run", "pkg.a_b.c", "Class", "Class.run"),
        ("pkg:main [extra]", "pkg", "main", "main"),
        ("pkg:main[a,b]", "pkg", "main", "main"),
    ],
)
def test_the_script_imports_and_calls(value: str, module: str, first: str, call: str) -> None:
    text = script_text(EntryPoint(name="x", value=value), "/opt/venv/bin/python", where="x.whl")
    lines = text.decode().splitlines()
    assert lines[0] == "#!/opt/venv/bin/python"
    assert lines[2] == f"from {module} import {first}"
    assert lines[-1] == f"    sys.exit({call}())"


def test_the_script_runs(tmp_path: Path) -> None:
    point = EntryPoint(name="x", value="os.path:basename.__class__")
    path = tmp_path / "x"
    path.write_bytes(
        script_text(EntryPoint(name="x", value="platform:python_version"), sys.executable, where="")
    )
    path.chmod(0o755)
    done = subprocess.run([path], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ".".join(map(str, sys.version_info[:3]))
    assert script_text(point, sys.executable, where="")


@pytest.mark.parametrize("value", ["", "pkg", "pkg.mod", "pkg:", ":f", "a:b:c", "a:b [", "a b:c"])
def test_refuses_an_entry_point_that_calls_nothing(value: str) -> None:
    with pytest.raises(WheelError, match="names no function"):
        script_text(EntryPoint(name="x", value=value), "/p", where="x.whl")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", "/a", "a\\b", "[a"])
def test_refuses_an_entry_point_that_is_no_file_name(name: str) -> None:
    with pytest.raises(WheelError, match="is no file name"):
        _names({name: "a:b"})


@pytest.mark.parametrize("folder", ["with space", "long" * 40])
def test_a_path_that_linux_cannot_take_in_a_first_line_goes_through_the_shell(
    tmp_path: Path, folder: str
) -> None:
    interpreter = tmp_path / folder / "python"
    interpreter.parent.mkdir()
    interpreter.symlink_to(sys.executable)
    script = tmp_path / "script"
    script.write_bytes(shebang(str(interpreter)) + b"print('ran')\n")
    script.chmod(0o755)
    assert script.read_bytes().startswith(b"#!/bin/sh\n")
    assert subprocess.run([script], capture_output=True, check=True).stdout == b"ran\n"


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [("x", True), ("x.exe", True), ("X.EXE", False), ("x.EXE", True), ("x-script.py", True),
     ("x.pya", True), ("x.py", False), ("y", False)],
)  # fmt: skip
def test_knows_the_wrappers_of_setuptools(name: str, wrapper: bool) -> None:
    assert is_wrapper(name, EntryPoints(console={"x": "a:b"}, gui={})) is wrapper
    assert is_wrapper(name, EntryPoints(console={}, gui={"x": "a:b"})) is wrapper
