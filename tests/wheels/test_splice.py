"""The zip directory of a wheel: what is read, what is refused."""

from __future__ import annotations

import os
import stat
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
from wheel_maker import EXECUTABLE, make_wheel

from dockyard.errors import WheelError
from dockyard.files import DeflatedSource, SliceSource
from dockyard.wheels.splice import DEFLATED, STORED, read_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOISE = os.urandom(70_000)


def test_finds_the_raw_stream_of_each_member(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        {"demo/a.py": b"text " * 5000, "demo/b.bin": NOISE, "demo/empty": b""},
        methods={"demo/b.bin": zipfile.ZIP_STORED},
        modes={"demo/b.bin": EXECUTABLE},
    )
    wheel = read_wheel(path, sha256="ab" * 32)
    assert wheel.sha256 == "ab" * 32
    with zipfile.ZipFile(path) as archive:
        assert [member.name for member in wheel.members] == archive.namelist()
        for member in wheel.members:
            assert b"".join(wheel.source(member).chunks()) == archive.read(member.name)
    a, b, empty, *_ = wheel.members
    assert (a.method, b.method) == (DEFLATED, STORED)
    assert isinstance(wheel.source(a), DeflatedSource)
    assert isinstance(wheel.source(b), SliceSource)
    assert (a.executable, b.executable) == (False, True)
    assert empty.size == 0


def test_reads_sizes_that_follow_the_data(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/a.py": b"x = 1\n" * 100}, streamed=True)
    wheel = read_wheel(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].flag_bits & 8
    assert wheel.read(wheel.members[0]) == b"x = 1\n" * 100


def test_reads_zip64_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = make_wheel(tmp_path, {"demo/a.bin": NOISE, "demo/b.py": b"small"})
    assert b"PK\6\6" in path.read_bytes()
    wheel = read_wheel(path)
    assert wheel.members[0].size == len(NOISE)
    assert wheel.read(wheel.members[0]) == NOISE
    assert wheel.read(wheel.members[1]) == b"small"


def test_reads_members_beyond_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    size = (4 << 30) + 5
    with path.open("wb") as file:  # a sparse file: its hole is the stored member
        name = b"demo/large.bin"
        extra = struct.pack("<2H2Q", 1, 16, size, size)
        big = 0xFFFFFFFF
        file.write(
            struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 33, 7, big, big, len(name), 20)
            + name
            + extra
        )
        data_at = file.tell()
        file.seek(size, os.SEEK_CUR)
        second = file.tell()
        file.write(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"x")
        start = file.tell()
        file.write(
            struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 33, 7, big, big, len(name),
                        20, 0, 0, 0, 0, 0)
            + name + extra
        )  # fmt: skip
        extra = struct.pack("<2HQ", 1, 8, second)
        file.write(
            struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 33, 0, 0, 0, 1, 12, 0, 0, 0, 0,
                        big)
            + b"x" + extra
        )  # fmt: skip
        end = file.tell()
        file.write(
            struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, end - start, start)
            + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
            + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, end - start, big, 0)
        )
    large, small = read_wheel(path).members
    assert (large.size, large.offset) == (size, data_at)
    assert small.offset == second + 31


def _rename(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


def _central(data: bytes, name: bytes) -> int:
    """The offset of the directory header of `name`."""
    at = data.index(b"PK\1\2")
    while data[at + 46 : at + 46 + len(name)] != name:
        at = data.index(b"PK\1\2", at + 4)
    return at


def _patch(
    name: bytes, at: int, form: str, value: int, *, local: int | None = None
) -> Callable[[bytes], bytes]:
    """Change a field of a directory header, and of the local one where `local` gives its place."""

    def change(data: bytes) -> bytes:
        patched = bytearray(data)
        central = _central(data, name)
        struct.pack_into(form, patched, central + at, value)
        if local is not None:
            (offset,) = struct.unpack_from("<L", data, central + 42)
            struct.pack_into(form, patched, offset + local, value)
        return bytes(patched)

    return change


def _patch_end(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        patched = bytearray(data)
        struct.pack_into(form, patched, data.rindex(b"PK\5\6") + at, value)
        return bytes(patched)

    return change


A = b"demo/aaaaaaaaaaaa.py"
BAD_BYTES = [
    # what it is, how the file is changed, what the message says
    ("climbs out", _rename(A, b"demo/../../../etc/xx"), "climbs out of its folder"),
    ("absolute", _rename(A, b"/etc/aaaaaaaaaaaaaaa"), "absolute"),
    ("whiteout", _rename(A, b"demo/.wh.aaaaaaaa.py"), "reserve for deletions"),
    ("backslash", _rename(A, b"demo\\aaaaaaaaaaaa.py"), "no file name may hold"),
    ("a NUL hides the end", _rename(A, b"demo/aaaaa.py\0aaaaaa"), "no file name may hold"),
    ("empty component", _rename(A, b"demo//aaaaaaaaaaa.py"), "empty component"),
    ("not UTF-8", lambda data: _patch(A, 8, "<H", 0x800)(data).replace(A, b"\xff" * 20), "UTF-8"),
    ("encrypted", _patch(A, 8, "<H", 1, local=6), "is encrypted"),
    ("bzip2", _patch(A, 10, "<H", 12, local=8), "compressed with bzip2"),
    ("an unknown method", _patch(A, 10, "<H", 77, local=8), "compressed with method 77"),
    ("on another disk", _patch(A, 34, "<H", 3), "another part"),
    ("a size no stream can have", _patch(A, 24, "<L", 1 << 31, local=22), "more than"),
    ("another local name", lambda data: data.replace(A, b"demo/bbbbbbbbbbbb.py", 1), "disagree"),
    ("another local method", _patch(A, 10, "<H", 0), "two sizes"),
    ("another local size", _patch(A, 24, "<L", 4999), "disagree"),
    ("another local CRC-32", _patch(A, 16, "<L", 1), "disagree"),
    ("no local header there", _patch(A, 42, "<L", 5), "isn't where"),
    ("overlaps the next", _patch(A, 20, "<L", 3000, local=18), "overlaps"),
    ("reaches past the end", _patch(A, 20, "<L", 1 << 30, local=18), "past the end"),
    ("one of several disks", _patch_end(4, "<H", 1), "one part of several"),
    ("more entries than there are", lambda data: _patch_end(8, "<L", 0x630063)(data), "ends early"),
    ("fewer entries than there are", _patch_end(8, "<L", 0x10001), "more than its entries"),
    ("something before it", lambda data: b"#!/bin/sh\n" + data, "isn't where the end"),
    ("something after it", lambda data: data + b"x", "its end is missing"),
    ("cut in the middle", lambda data: data[: len(data) // 2], "its end is missing"),
    ("cut by a byte", lambda data: data[:-1], "its end is missing"),
    ("the start is missing", lambda data: data[100:], "isn't where the end"),
    ("empty file", lambda data: b"", "no zip archive"),
    ("an HTML page", lambda data: b"<html>" * 100, "no zip archive"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "change", "message"), BAD_BYTES, ids=[row[0] for row in BAD_BYTES]
)
def test_refuses_a_wheel_whose_bytes_were_changed(
    tmp_path: Path, what: str, change: Callable[[bytes], bytes], message: str
) -> None:
    path = make_wheel(tmp_path, {A.decode(): NOISE[:2500] * 2, "demo/b.py": b"y"})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(WheelError, match=message) as caught:
        read_wheel(path)
    assert caught.value.where == path.name, what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (stat.S_IFLNK | 0o777, "symbolic link"),
        (stat.S_IFCHR | 0o666, "device"),
        (stat.S_IFBLK | 0o666, "device"),
        (stat.S_IFIFO | 0o666, "pipe"),
        (stat.S_IFSOCK | 0o666, "socket"),
        (stat.S_IFDIR | 0o755, "both a file and a directory"),
    ],
)
def test_refuses_what_is_no_plain_file(tmp_path: Path, mode: int, message: str) -> None:
    path = make_wheel(tmp_path, {"demo/x": b"/etc/passwd"}, modes={"demo/x": mode})
    with pytest.raises(WheelError, match=message):
        read_wheel(path)


def test_refuses_a_name_that_is_there_twice(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("demo/__init__.py", b"evil")
    with pytest.raises(WheelError, match=r"'demo/__init__.py' is there twice"):
        read_wheel(path)


@pytest.mark.parametrize("other", ["demo/x/", "demo/x/y", "demo/x/y/z"])
def test_refuses_a_file_that_is_a_folder_too(tmp_path: Path, other: str) -> None:
    path = make_wheel(tmp_path, {"demo/x": b"1", other: b"" if other[-1] == "/" else b"2"})
    with pytest.raises(WheelError, match="'demo/x' is both a file and a directory"):
        read_wheel(path)


def test_refuses_entries_that_share_their_bytes(tmp_path: Path) -> None:
    """The bomb that `zipfile` took for years: many directory entries, one stream."""
    path = make_wheel(tmp_path, {"demo/a": bytes(50_000), "demo/b": bytes(50_000)})
    data = path.read_bytes()
    first = struct.unpack_from("<L", data, _central(data, b"demo/a") + 42)[0]
    path.write_bytes(_patch(b"demo/b", 42, "<L", first)(data))
    with pytest.raises(WheelError, match="overlaps"):
        read_wheel(path)


def test_refuses_a_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockyard.wheels.splice._BOMB_SIZE", 50 << 20)
    path = make_wheel(tmp_path, {f"demo/{n}": bytes(20_000_000) for n in range(3)})
    assert path.stat().st_size < 100_000
    with pytest.raises(WheelError, match="zip bomb"):
        read_wheel(path)


def test_a_crc_that_was_changed_is_found_when_the_member_is_read(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/a": NOISE, "demo/b": NOISE}, methods={"demo/b": 0})
    data = path.read_bytes()
    for name in (b"demo/a", b"demo/b"):
        path.write_bytes(_patch(name, 16, "<L", 123, local=14)(data))
        wheel = read_wheel(path)
        member = next(member for member in wheel.members if member.name == name.decode())
        with pytest.raises(WheelError, match="CRC-32"):
            wheel.read(member)


def test_a_member_is_never_read_whole_above_the_limit(tmp_path: Path) -> None:
    wheel = read_wheel(make_wheel(tmp_path, {"demo/a": NOISE}))
    with pytest.raises(WheelError, match="70000 bytes long"):
        wheel.read(wheel.members[0], limit=69_999)


def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="No such file"):
        read_wheel(tmp_path / "gone-1.0-py3-none-any.whl")


def test_accepts_directories_and_names_of_old_archivers(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/": b"", "demo/ä.py": b"x", "demo/y": b"y"},
                      modes={"demo/y": 0})  # fmt: skip
    members = read_wheel(path).members
    assert [member.name for member in members[:3]] == ["demo/", "demo/ä.py", "demo/y"]
    assert [member.is_dir for member in members[:3]] == [True, False, False]
