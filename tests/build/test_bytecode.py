"""Bytecode is the same whoever makes it, in whatever company, and an interpreter takes it."""

from __future__ import annotations

import importlib.util
import marshal
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from local_base import ARCHITECTURE, PYTHON

from dockyard.build import bytecode
from dockyard.build.bytecode import (
    BasePython,
    CompileUnit,
    compile_modules,
    find_base_python,
    pyc_path,
    why_not_runnable,
)
from dockyard.build.profile import standard_library
from dockyard.build.worker import program_text
from dockyard.cache import Cache
from dockyard.errors import BuildError
from dockyard.files import BytesSource

if TYPE_CHECKING:
    from dockyard.files import FileEntry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bytecode is made on Linux only")


def unit(path: str, source: str | bytes) -> CompileUnit:
    data = source.encode() if isinstance(source, str) else source
    return CompileUnit(path=path, source=BytesSource(data))


def contents(entries: list[FileEntry]) -> dict[str, bytes]:
    return {entry.path: b"".join(map(bytes, entry.source.chunks())) for entry in entries}


def test_hundreds_of_modules_are_the_same_in_any_order_number_of_workers_and_company(
    base: BasePython, tmp_path: Path
) -> None:
    units = standard_library(base)[:400]
    assert len(units) == 400
    first = contents(compile_modules(base, units, cache=Cache(tmp_path / "a"), workers=2))
    assert len(first) > 390
    shuffled = random.Random(7).sample(units, len(units))
    again = contents(compile_modules(base, shuffled, cache=Cache(tmp_path / "b"), workers=1))
    assert again == first
    some = contents(compile_modules(base, shuffled[:60], cache=Cache(tmp_path / "c"), workers=3))
    assert some == {path: first[path] for path in some}
    assert len(some) > 55


SETS = """
def f(x):
    return x in {"one_sided", "two_sided"}
def g(x):
    return x in {"one_sided", "two_sided"} or x > 1000
"""


def test_names_that_other_modules_left_interned_make_no_difference(base: BasePython) -> None:
    program = program_text("_compile.py").removesuffix("main()\n")
    assert not program.endswith("main()\n")
    program += "kept = [sys.intern(name) for name in sys.argv[2:]]\n"
    program += "sys.stdout.buffer.write(compiled('m.py', sys.argv[1].encode()))\n"

    def compiled(*interned: str) -> bytes:
        command = [*base.command, "-S", "-c", program, SETS, *interned]
        return subprocess.run(
            command, env=base.environment(), capture_output=True, check=True
        ).stdout

    assert compiled("one_sided") == compiled("two_sided", "one_sided") == compiled()


def test_where_the_base_is_unpacked_makes_no_difference(
    base: BasePython, base_root: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "another" / "place"
    moved.mkdir(parents=True)
    subprocess.run(["cp", "-a", f"{base_root}/.", moved], check=True)
    elsewhere = find_base_python(moved, python=PYTHON, architecture=ARCHITECTURE)
    units = standard_library(base)[:40]
    here = contents(compile_modules(base, units, cache=Cache(tmp_path / "a")))
    there = contents(compile_modules(elsewhere, units, cache=Cache(tmp_path / "b")))
    assert here == there
    assert base.identity() == elsewhere.identity()


def test_the_environment_of_the_host_makes_no_difference(
    base: BasePython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = standard_library(base)[:40]
    before = contents(compile_modules(base, units, cache=Cache(tmp_path / "a")))
    for name, value in {
        "PYTHONHASHSEED": "17",
        "PYTHONOPTIMIZE": "2",
        "PYTHONPATH": str(tmp_path),
        "LC_ALL": "de_DE.ISO-8859-1",
        "TZ": "Asia/Kathmandu",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marshal.py").write_text("raise SystemExit(3)")
    mask = os.umask(0o077)
    try:
        after = contents(compile_modules(base, units, cache=Cache(tmp_path / "b")))
    finally:
        os.umask(mask)
    assert after == before


def test_a_pyc_is_hash_based_and_unchecked_and_names_the_path_in_the_image(
    base: BasePython, cache: Cache
) -> None:
    source = b'"""Doc."""\ndef answer():\n    assert True\n    return 42\n'
    (entry,) = compile_modules(base, [unit("opt/venv/lib/x/m.py", source)], cache=cache)
    assert entry.path == f"opt/venv/lib/x/__pycache__/m.cpython-{PYTHON.replace('.', '')}.pyc"
    assert (entry.kind, entry.mode) == ("file", 0o644)
    data = b"".join(map(bytes, entry.source.chunks()))
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\1\0\0\0"
    assert data[8:16] == importlib.util.source_hash(source)
    code = marshal.loads(data[16:])
    assert code.co_filename == "/opt/venv/lib/x/m.py"
    functions = [const for const in code.co_consts if hasattr(const, "co_filename")]
    assert functions[0].co_filename == "/opt/venv/lib/x/m.py"
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert namespace["answer"]() == 42


def test_an_interpreter_imports_it_without_looking_at_the_source(
    base: BasePython, cache: Cache, tmp_path: Path
) -> None:
    (entry,) = compile_modules(base, [unit("m.py", "value = 'from the pyc'\n")], cache=cache)
    (tmp_path / "m.py").write_text("value = 'from the source'\n")
    pyc = tmp_path / entry.path
    pyc.parent.mkdir()
    pyc.write_bytes(b"".join(map(bytes, entry.source.chunks())))
    said = subprocess.run(
        [sys.executable, "-c", "import m; print(m.value)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "from the pyc\n"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("print 'Python 2'\n", id="Python 2"),
        pytest.param("class {{ name }}:\n    pass\n", id="a template"),
        pytest.param(b"# -*- coding: utf-8 -*-\nx = '\xff'\n", id="bytes that aren't UTF-8"),
        pytest.param(b"# coding: nonsense\n", id="an unknown encoding"),
        pytest.param(b"x = 1\0\n", id="a null byte"),
        pytest.param("(" * 500 + ")" * 500, id="too many parentheses"),
        pytest.param("x = " + "-" * 200_000 + "1\n", id="too deep for the parser"),
        pytest.param("return 1\n", id="return outside a function"),
    ],
)
def test_a_source_that_is_no_python_is_left_out_and_harms_no_other(
    base: BasePython, cache: Cache, source: str | bytes
) -> None:
    units = [unit("a/before.py", "x = 1\n"), unit("a/bad.py", source), unit("a/z.py", "y = 2\n")]
    for _ in ("compiled", "from the cache"):
        entries = compile_modules(base, units, cache=cache, workers=1)
        assert [entry.path for entry in entries] == [
            pyc_path("a/before.py", base),
            pyc_path("a/z.py", base),
        ]


def test_a_source_that_warns_is_compiled(base: BasePython, cache: Cache) -> None:
    entries = compile_modules(base, [unit("w.py", "x = '\\d'\nx is 'a'\n")], cache=cache)
    assert len(entries) == 1


def test_other_sources_at_a_path_and_other_paths_of_a_source_are_compiled_anew(
    base: BasePython, cache: Cache
) -> None:
    units = [unit("a.py", "x = 1\n"), unit("b.py", "x = 1\n")]
    a, b = contents(compile_modules(base, units, cache=cache)).values()
    assert a != b
    (changed,) = contents(compile_modules(base, [unit("a.py", "x = 2\n")], cache=cache)).values()
    assert changed != a


def test_what_was_compiled_before_comes_from_the_cache(
    base: BasePython, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = standard_library(base)[:20]
    first = contents(compile_modules(base, units, cache=cache))
    monkeypatch.setattr(bytecode, "Worker", None)
    assert contents(compile_modules(base, units, cache=cache)) == first


def test_a_blob_lost_from_the_cache_is_compiled_again(base: BasePython, cache: Cache) -> None:
    (entry,) = compile_modules(base, [unit("a.py", "x = 1\n")], cache=cache)
    before = b"".join(map(bytes, entry.source.chunks()))
    entry.source.path.unlink()
    (entry,) = compile_modules(base, [unit("a.py", "x = 1\n")], cache=cache)
    assert b"".join(map(bytes, entry.source.chunks())) == before


def test_an_interpreter_that_dies_is_an_error_that_says_what_to_do(
    base: BasePython, base_root: Path, cache: Cache, tmp_path: Path
) -> None:
    true = BasePython(root=base_root, python=base.python, command=("/bin/false",), home=base.home)
    with pytest.raises(BuildError, match="base's Python ended early") as caught:
        compile_modules(true, [unit("a.py", "x = 1\n")], cache=cache)
    assert 'bytecode = "none"' in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("riscv64", "isn't made for riscv64"),
        ("arm64" if ARCHITECTURE == "amd64" else "amd64", "this host is"),
    ],
)
def test_a_base_of_another_architecture_is_refused_with_the_reason(
    architecture: str, reason: str, base_root: Path
) -> None:
    assert reason in (why_not_runnable(architecture) or "")
    with pytest.raises(BuildError, match=reason):
        find_base_python(base_root, python=PYTHON, architecture=architecture)


def test_a_base_without_that_python_is_refused(base_root: Path) -> None:
    with pytest.raises(BuildError, match=r"the base has no Python 3\.4"):
        find_base_python(base_root, python="3.4", architecture=ARCHITECTURE)


def test_links_of_the_base_are_followed_inside_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to("/b/../c")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/loop").symlink_to("loop")
    assert bytecode._resolve(tmp_path, "a") == tmp_path / "c"
    assert bytecode._resolve(tmp_path, "a/loop") is None
    assert bytecode._resolve(tmp_path, "../../a") == tmp_path / "c"
    (tmp_path / "out").symlink_to("/etc/passwd")
    assert bytecode._resolve(tmp_path, "out") is None
