"""Installing a wheel: where its files go, what is written beside them, what is refused."""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
import zipfile
from typing import TYPE_CHECKING

import pytest
from wheel_maker import EXECUTABLE, make_wheel, record_line, tree

from dockyard.errors import FileTreeError, WheelError
from dockyard.files import BytesSource, DeflatedSource, SliceSource
from dockyard.wheels.install import Venv, install_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.wheels.install import InstalledWheel

VENV = Venv()
SITE = "opt/venv/lib/python3.11/site-packages"
INFO = "demo-1.0.dist-info"


def _install(path: Path, **options: object) -> InstalledWheel:
    return install_wheel(path, VENV, **({"requested": False} | options))  # type: ignore[arg-type]


def _record(installed: InstalledWheel) -> dict[str, tuple[str, str]]:
    text = tree(installed.entries)[f"{SITE}/{INFO}/RECORD"].decode()
    return {path: (digest, size) for path, digest, size in csv.reader(io.StringIO(text, ""))}


def test_places_the_root_and_says_what_it_is(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        metadata="Requires-Dist: numpy>=2\nRequires-Dist: rich; extra == 'x'\n"
        "Requires-Python: >=3.9\nLicense-Expression: MIT\nSummary: A demo",
    )
    installed = _install(path, sha256="0" * 64)
    assert (installed.name, installed.version) == ("demo", "1.0")
    assert (installed.filename, installed.sha256) == (path.name, "0" * 64)
    assert installed.metadata.requires_dist == ("numpy>=2", "rich; extra == 'x'")
    assert installed.metadata.requires_python == ">=3.9"
    assert installed.metadata.license == "MIT"
    assert installed.metadata.summary == "A demo"
    assert installed.metadata.tags == ("py3-none-any",)
    assert [entry.path for entry in installed.entries] == [
        f"{SITE}/demo/__init__.py",
        f"{SITE}/{INFO}/INSTALLER",
        f"{SITE}/{INFO}/METADATA",
        f"{SITE}/{INFO}/RECORD",
        f"{SITE}/{INFO}/WHEEL",
    ]
    assert tree(installed.entries)[f"{SITE}/{INFO}/INSTALLER"] == b"dockyard\n"
    assert installed.size == sum(map(len, tree(installed.entries).values()))


def test_the_name_may_come_from_the_lock_instead_of_the_file(tmp_path: Path) -> None:
    path = make_wheel(tmp_path).rename(tmp_path / ("ab" * 32))
    installed = _install(path, filename="demo-1.0-py3-none-any.whl")
    assert installed.filename == "demo-1.0-py3-none-any.whl"
    with pytest.raises(WheelError, match="name is no wheel's"):
        _install(path)


def test_places_the_five_data_schemes(tmp_path: Path) -> None:
    data = "demo-1.0.data"
    path = make_wheel(
        tmp_path,
        {
            f"{data}/purelib/pure.py": b"1",
            f"{data}/platlib/plat.so": b"2",
            f"{data}/headers/demo.h": b"3",
            f"{data}/scripts/tool": b"\x7fELF",
            f"{data}/data/share/demo/x.txt": b"5",
            f"{data}/data/lib64/python3.11/site-packages/six.py": b"6",
        },
        purelib=False,
        modes={f"{data}/scripts/tool": EXECUTABLE},
    )
    installed = _install(path)
    assert not installed.metadata.purelib
    files = tree(installed.entries)
    assert files[f"{SITE}/pure.py"] == b"1"
    assert files[f"{SITE}/plat.so"] == b"2"
    assert files["opt/venv/include/site/python3.11/demo/demo.h"] == b"3"
    assert files["opt/venv/bin/tool"] == b"\x7fELF"
    assert files["opt/venv/share/demo/x.txt"] == b"5"
    assert files[f"{SITE}/six.py"] == b"6"
    assert {entry.path for entry in installed.entries if entry.mode == 0o755} == {
        "opt/venv/bin/tool"
    }
    record = _record(installed)
    assert record["../../../bin/tool"][1] == "4"
    assert record["../../../share/demo/x.txt"][1] == "1"
    assert record["../../../include/site/python3.11/demo/demo.h"][1] == "1"
    assert not any(".data" in line for line in record)


@pytest.mark.parametrize("line", [b"#!python", b"#!pythonw", b"#!python3 -u"], ids=repr)
def test_gives_a_shipped_script_the_environments_interpreter(tmp_path: Path, line: bytes) -> None:
    name = "demo-1.0.data/scripts/run.py"
    path = make_wheel(tmp_path, {name: line + b"\nprint(1)\n"}, modes={name: EXECUTABLE})
    installed = _install(path)
    text = tree(installed.entries)["opt/venv/bin/run.py"]
    assert text == b"#!/opt/venv/bin/python\nprint(1)\n"
    line_ = record_line("../../../bin/run.py", text).split(",")
    assert _record(installed)["../../../bin/run.py"] == (line_[1], line_[2])


def test_leaves_other_scripts_as_they_are(tmp_path: Path) -> None:
    names = [f"demo-1.0.data/scripts/{n}" for n in "abc"]
    texts = [b"#!/bin/sh\necho\n", b"#!/usr/bin/env python\n", b""]
    path = make_wheel(tmp_path, dict(zip(names, texts, strict=True)))
    files = tree(_install(path).entries)
    assert [files[f"opt/venv/bin/{n}"] for n in "abc"] == texts


def test_writes_entry_points_and_drops_the_wrappers_that_setuptools_made(tmp_path: Path) -> None:
    points = b"[console_scripts]\ndemo = demo.cli:main\n[gui_scripts]\nwin = demo.gui:App.run\n"
    scripts = "demo-1.0.data/scripts"
    path = make_wheel(
        tmp_path,
        {
            f"{INFO}/entry_points.txt": points,
            f"{scripts}/demo": b"#!python\nold\n",
            f"{scripts}/demo-script.py": b"old",
            f"{scripts}/win.exe": b"MZ",
            f"{scripts}/other": b"#!/bin/sh\n",
        },
    )
    installed = _install(path)
    files = tree(installed.entries)
    assert files["opt/venv/bin/demo"] == (
        b"#!/opt/venv/bin/python\nimport sys\nfrom demo.cli import main\n"
        b"if __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n"
        b"    sys.exit(main())\n"
    )
    assert b"from demo.gui import App\n" in files["opt/venv/bin/win"]
    assert {path for path in files if "/bin/" in path} == {
        "opt/venv/bin/demo",
        "opt/venv/bin/win",
        "opt/venv/bin/other",
    }
    modes = {entry.path: entry.mode for entry in installed.entries}
    assert modes["opt/venv/bin/demo"] == modes["opt/venv/bin/win"] == 0o755


def test_says_who_asked_and_where_it_came_from(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    url = {"url": "https://example.org/demo.whl", "archive_info": {}}
    files = tree(_install(path, requested=True, direct_url=url).entries)
    assert files[f"{SITE}/{INFO}/REQUESTED"] == b""
    assert files[f"{SITE}/{INFO}/direct_url.json"] == (
        b'{"archive_info": {}, "url": "https://example.org/demo.whl"}'
    )
    assert f"{SITE}/{INFO}/REQUESTED" not in tree(_install(path).entries)


def test_record_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        {
            f"{INFO}/entry_points.txt": b"[console_scripts]\nx = demo:f\n",
            "demo/a b,c.txt": b"1",
            "demo-1.0.data/data/etc/x": b"2",
        },
    )
    installed = _install(path, requested=True)
    record = _record(installed)
    lines = {posixpath.normpath(f"{SITE}/{name}"): rest for name, rest in record.items()}
    files = tree(installed.entries)
    assert set(lines) == set(files)
    for name, (digest, size) in lines.items():
        if name == f"{SITE}/{INFO}/RECORD":
            assert (digest, size) == ("", "")
        else:
            assert f",{digest},{size}" == record_line("", files[name])
    assert list(record) == sorted(record)


def test_drops_the_bytecode_that_a_wheel_ships(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path, {"demo/__pycache__/x.cpython-311.pyc": b"old", "demo/only.pyc": b"kept"}
    )
    installed = _install(path)
    assert f"{SITE}/demo/only.pyc" in tree(installed.entries)
    assert not any("__pycache__" in name for name in tree(installed.entries))
    assert not any("__pycache__" in name for name in _record(installed))


def test_attaches_the_hashes_of_record_for_the_packer(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/a": b"deflated", "demo/b": b"stored"}, methods={"demo/b": 0})
    sources = {entry.path: entry.source for entry in _install(path).entries}
    a, b = sources[f"{SITE}/demo/a"], sources[f"{SITE}/demo/b"]
    assert isinstance(a, DeflatedSource)
    assert a.sha256 == hashlib.sha256(b"deflated").digest()
    assert isinstance(b, SliceSource)
    assert b.sha256 == hashlib.sha256(b"stored").digest()


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_checks_other_hashes_itself(tmp_path: Path, algorithm: str) -> None:
    good = record_line("demo/a", b"x" * 99, algorithm)
    installed = _install(make_wheel(tmp_path, {"demo/a": b"x" * 99}, record={"demo/a": good}))
    assert f"{SITE}/demo/a" in tree(installed.entries)
    bad = record_line("demo/a", b"y" * 99, algorithm)
    with pytest.raises(WheelError, match="doesn't have the hash that RECORD gives"):
        _install(make_wheel(tmp_path, {"demo/a": b"x" * 99}, record={"demo/a": bad}))


def test_installs_a_file_that_record_does_not_list_and_says_so(tmp_path: Path) -> None:
    """As pip does; a stored one, whose CRC-32 the packer doesn't see, is hashed at once."""
    path = make_wheel(
        tmp_path, {"demo/a": b"1", "demo/b": b"2"}, unrecorded=["demo/a", "demo/b"],
        methods={"demo/b": 0},
    )  # fmt: skip
    installed = _install(path)
    assert installed.unlisted == ("demo/a", "demo/b")
    assert _record(installed)["demo/a"] == ("", "")
    sources = {entry.path: entry.source for entry in installed.entries}
    stored = sources[f"{SITE}/demo/b"]
    assert isinstance(stored, SliceSource)
    assert stored.sha256 == hashlib.sha256(b"2").digest()


def test_a_hash_that_record_contradicts_is_an_error_for_who_packs(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path, {"demo/a": b"tampered"}, record={"demo/a": record_line("demo/a", b"original")}
    )
    source = {entry.path: entry.source for entry in _install(path).entries}[f"{SITE}/demo/a"]
    assert isinstance(source, DeflatedSource)
    assert source.sha256 != hashlib.sha256(b"tampered").digest()


def test_the_later_scheme_wins_inside_one_wheel(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo-1.0.data/purelib/demo/x.py": b"data", "demo/x.py": b"root"})
    installed = _install(path)
    assert tree(installed.entries)[f"{SITE}/demo/x.py"] == b"data"
    assert [entry.path for entry in installed.entries].count(f"{SITE}/demo/x.py") == 1


RECORD_BAD = [
    ("another size", "demo/a,sha256={good},2", "has 1 bytes, RECORD says 2"),
    ("md5", "demo/a,md5=xyz,1", "hash of kind 'md5'"),
    ("no hash at all", "demo/a,sha256=AAAA,1", "a hash that is none"),
    ("no base64", "demo/a,sha256=!!!,1", "a hash that is none"),
]


@pytest.mark.parametrize(("what", "line", "message"), RECORD_BAD, ids=[r[0] for r in RECORD_BAD])
def test_refuses_a_record_that_cannot_be_right(
    tmp_path: Path, what: str, line: str, message: str
) -> None:
    good = record_line("", b"x").split("=")[1].split(",")[0]
    path = make_wheel(tmp_path, {"demo/a": b"x"}, record={"demo/a": line.format(good=good)})
    with pytest.raises(WheelError, match=message) as caught:
        _install(path)
    assert caught.value.where == path.name, what


OTHER = "other-1.0.dist-info"
BAD: list[tuple[str, dict[str, object], str]] = [
    ("no RECORD", {"without": [f"{INFO}/RECORD"]}, "no RECORD"),
    ("no METADATA", {"without": [f"{INFO}/METADATA"]}, "no demo-1.0.dist-info/METADATA"),
    ("no WHEEL", {"without": [f"{INFO}/WHEEL"]}, "no demo-1.0.dist-info/WHEEL"),
    ("two dist-infos", {"files": {f"{OTHER}/METADATA": b"x"}}, "several: demo.*, other"),
    ("a format of the future", {"wheel_version": "2.0"}, "uses version 2.0 of the wheel format"),
    ("no format at all", {"wheel_version": "one"}, "Wheel-Version is 'one'"),
    ("another name", {"files": {f"{INFO}/METADATA": b"Name: evil\nVersion: 1.0\n"}}, "don't agree"),
    ("another version", {"files": {f"{INFO}/METADATA": b"Name: demo\nVersion: 2\n"}}, "agree"),
    ("no version", {"files": {f"{INFO}/METADATA": b"Name: demo\n"}}, "lacks Name or Version"),
    ("version that is none", {"files": {f"{INFO}/METADATA": b"Name: demo\nVersion: ?\n"}}, "wrong"),
    ("METADATA in Latin-1", {"files": {f"{INFO}/METADATA": b"Name: \xe4\n"}}, "not UTF-8"),
    ("RECORD in Latin-1", {"files": {f"{INFO}/RECORD": b"\xe4,,\n"}}, "RECORD can't be read"),
    ("an unknown scheme", {"files": {"demo-1.0.data/etc/x": b""}}, "no install scheme"),
    ("a file beside the schemes", {"files": {"demo-1.0.data/x": b""}}, "no install scheme"),
    ("the interpreter", {"files": {"demo-1.0.data/scripts/python3": b""}}, "would replace"),
    ("pyvenv.cfg", {"files": {"demo-1.0.data/data/pyvenv.cfg": b""}}, "would replace"),
    ("lib64", {"files": {"demo-1.0.data/data/lib64": b""}}, "would replace"),
    ("climbs out of its scheme", {"files": {"demo-1.0.data/data/../x": b""}}, "climbs out"),
    ("an entry point without =", {"files": {f"{INFO}/entry_points.txt": b"[console_scripts]\nx\n"}},
     "has no '='"),
    ("an entry point that climbs", {"files": {f"{INFO}/entry_points.txt":
     b"[console_scripts]\n../x = a:b\n"}}, "is no file name"),
    ("an entry point named python", {"files": {f"{INFO}/entry_points.txt":
     b"[console_scripts]\npython = a:b\n"}}, "would replace"),
    ("an entry point to a module", {"files": {f"{INFO}/entry_points.txt":
     b"[console_scripts]\nx = demo.cli\n"}}, "names no function"),
    ("entry points in Latin-1", {"files": {f"{INFO}/entry_points.txt": b"\xe4"}}, "not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "options", "message"), BAD, ids=[row[0] for row in BAD])
def test_refuses_a_bad_wheel(
    tmp_path: Path, what: str, options: dict[str, object], message: str
) -> None:
    path = make_wheel(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(WheelError, match=message) as caught:
        _install(path)
    assert caught.value.where == path.name, what
    assert caught.value.hint


def test_a_damaged_stream_is_an_error_when_it_is_packed(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/a": bytes(range(256)) * 40})
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("demo/a").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(FileTreeError, match="compressed data"):
        tree(_install(path).entries)


def test_installing_twice_gives_equal_trees(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {f"{INFO}/entry_points.txt": b"[console_scripts]\nx = demo:f\n"})
    assert _install(path) == _install(path)
    assert all(
        isinstance(entry.source, BytesSource | DeflatedSource) for entry in _install(path).entries
    )


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_no_changed_byte_raises_anything_but_a_clear_error(tmp_path: Path, flip: int) -> None:
    path = make_wheel(
        tmp_path,
        {"demo/a": b"text " * 50, f"{INFO}/entry_points.txt": b"[console_scripts]\nx = demo:f\n"},
        methods={"demo/a": 0, f"{INFO}/RECORD": 0, f"{INFO}/METADATA": 0, f"{INFO}/WHEEL": 0},
    )
    data = path.read_bytes()
    refused: list[str | None] = []
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= flip
        path.write_bytes(changed)
        try:
            tree(_install(path).entries)
        except (WheelError, FileTreeError) as error:
            refused.append(error.where)
    assert all(refused)
    assert len(refused) > len(data) * 0.6
