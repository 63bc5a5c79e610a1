"""The oracle: pip itself. Odd hand-made wheels offline, real ones where there is an index.

`bench/wheels.py` does the same over a long list and brings the comparison used here.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version
from wheel_maker import EXECUTABLE, REGULAR, make_wheel, record_line

if TYPE_CHECKING:
    from types import ModuleType

INFO = "demo-1.0.dist-info"
DATA = "demo-1.0.data"


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    """The comparison of bench/wheels.py."""
    if Version(version("pip")) < Version("26"):
        pytest.fail("pip before 26 writes another script; install the dev extra's pip")
    path = Path(__file__).parents[2] / "bench" / "wheels.py"
    spec = importlib.util.spec_from_file_location("bench_wheels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _points(text: str) -> dict[str, bytes]:
    return {f"{INFO}/entry_points.txt": f"[console_scripts]\n{text}\n".encode()}


ODD: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("streamed", {"streamed": True}),
    ("stored", {"files": {"demo/a": b"1" * 500, "b": b"2"}, "methods": {"demo/a": 0, "b": 0}}),
    ("not in RECORD", {"files": {"z": b"1", "a": b"2"}, "unrecorded": ["z", "a"]}),
    ("sha512", {"files": {"a": b"x"}, "record": {"a": record_line("a", b"x", "sha512")}}),
    ("no size in RECORD", {"files": {"a": b"x"}, "record": {
        "a": record_line("a", b"x").rpartition(",")[0]}}),
    ("shipped bytecode", {"files": {"a/__pycache__/a.cpython-311.pyc": b"x", "a/b.pyc": b"y",
                                    "__pycache__/z.pyc": b"z"}}),
    ("commas and other letters", {"files": {"demo/a, b.txt": b"1", "demo/ä “ß”.txt": b"2"}}),
    ("empty files and folders", {"files": {"demo/empty": b"", "demo/nothing/": b""}}),
    ("all schemes", {"purelib": False, "files": {
        f"{DATA}/purelib/p.py": b"1", f"{DATA}/platlib/q.so": b"2", f"{DATA}/headers/h/x.h": b"3",
        f"{DATA}/data/share/x": b"4", f"{DATA}/data/lib64/y": b"5", f"{DATA}/scripts/s": b"6",
        f"{DATA}/scripts/sub/t": b"#!python\n7"}}),
    ("a foreign .data folder", {"files": {"other.data/purelib/p.py": b"1"}}),
    ("scripts that ask for python", {"files": {
        f"{DATA}/scripts/a": b"#!python\nprint()\n", f"{DATA}/scripts/b": b"#!pythonw -u\nx",
        f"{DATA}/scripts/c": b"#!python", f"{DATA}/scripts/d": b"#!/usr/bin/env python\n",
        f"{DATA}/scripts/e": b"", f"{DATA}/scripts/f": b"#!python\r\nx\r\n"},
        "modes": {f"{DATA}/scripts/{n}": EXECUTABLE for n in "abd"}}),
    ("executable bits", {"files": {n: n.encode() for n in "abcde"}, "modes": {
        "a": EXECUTABLE, "b": REGULAR | 0o010, "c": 0o755, "d": 0, "e": 0o100600}}),
    ("one path twice", {"files": {f"{DATA}/purelib/x.py": b"1", "x.py": b"22",
                                  f"{DATA}/platlib/x.py": b"333"}}),
    ("entry points", {"files": _points(
        "a = demo:f\n# c\na2 = demo.cli:App.run [extra, more]\nd-e.f = demo:g\na = demo:last")}),
    ("GUI scripts", {"files": {f"{INFO}/entry_points.txt":
        b"[gui_scripts]\nw = demo:f\n[x]\nno = thing here\n[console_scripts]\nw = demo:g\n"}}),
    ("pip's versions", {"files": _points("pip = d:f\npip3 = d:f\npip9.9 = d:f\npipx = d:f")}),
    ("easy_install", {"files": _points("easy_install = d:f\neasy_install-2.7 = d:f")}),
    ("wrappers of setuptools", {"files": _points("t = demo:f") | {
        f"{DATA}/scripts/t": b"old", f"{DATA}/scripts/t.exe": b"old", f"{DATA}/scripts/u.exe": b"u",
        f"{DATA}/scripts/t-script.py": b"old"}}),
    ("an entry point over a data file", {"files": _points("t = demo:f") | {
        f"{DATA}/data/bin/t": b"old"}}),
    ("its own INSTALLER and REQUESTED", {"files": {f"{INFO}/INSTALLER": b"me\n",
                                                   f"{INFO}/REQUESTED": b"x"}}),
    ("RECORD lists what isn't there", {"files": {"a": b"x"}, "record": {
        "a": record_line("a", b"x") + "\ngone.py,sha256=AAAA,3"}}),
    ("RECORD with its own signature", {"files": {f"{INFO}/RECORD.jws": b"{}"},
                                       "unrecorded": [f"{INFO}/RECORD.jws"]}),
    ("a local version", {"version": "1.0+cpu.2"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "options"), ODD, ids=[row[0] for row in ODD])
def test_an_odd_wheel_becomes_the_tree_that_pip_makes(
    oracle: ModuleType, tmp_path: Path, what: str, options: dict[str, Any]
) -> None:
    wheel = make_wheel(tmp_path, **options)
    result = oracle.check(wheel, f"demo=={options.get('version', '1.0')}", tmp_path)
    assert result.differences == (), what
    assert result.files >= 4


REAL = (
    "argcomplete", "docutils", "greenlet", "jmespath", "jupyter-core", "markupsafe", "ninja",
    "nvidia-ml-py", "pip", "pybind11-global", "six", "widgetsnbextension",
)  # fmt: skip


@pytest.mark.network
@pytest.mark.parametrize("name", REAL)
def test_a_real_wheel_becomes_the_tree_that_pip_makes(
    oracle: ModuleType, tmp_path: Path, name: str
) -> None:
    (pin,) = [
        line
        for line in (oracle.HERE / "wheels.txt").read_text().splitlines()
        if line.partition("==")[0] == name
    ]
    result = oracle.check(oracle.fetch(tmp_path, pin), pin, tmp_path)
    assert result.differences == ()
    assert result.name == name
