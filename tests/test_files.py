"""Entries, paths and sources."""

import os
import zlib
from pathlib import Path

import pytest

from dockyard.errors import FileTreeError
from dockyard.files import (
    BytesSource,
    DeflatedSource,
    SliceSource,
    check_path,
    directory_entry,
    file_entry,
    symlink_entry,
    with_parents,
)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "absolute or empty"),
        ("/etc/passwd", "absolute or empty"),
        ("../etc/passwd", "climbs out"),
        ("a/../../b", "climbs out"),
        ("a//b", "empty component"),
        ("a/./b", "empty component"),
        ("a/", "empty component"),
        ("a/.wh.b", "deletions"),
        (".wh..wh..opq", "deletions"),
        ("a\0b", "character"),
        ("a\\b", "character"),
        ("a\nb", "character"),
    ],
)
def test_refuses_an_unsafe_path(path: str, reason: str) -> None:
    with pytest.raises(FileTreeError, match=reason) as caught:
        check_path(path, where="bad.whl")
    assert caught.value.where == "bad.whl"


@pytest.mark.parametrize("path", ["a", "a/b", "a/..b", "a/.whb", "ä/✓", "a b/c"])
def test_accepts_a_safe_path(path: str) -> None:
    assert check_path(path, where="x") == path


def test_synthesises_each_parent_once_and_sorts_by_component() -> None:
    entries = with_parents(
        [file_entry("a/b/c", b""), file_entry("a-b", b""), file_entry("a/b/d", b"")]
    )
    assert [entry.path for entry in entries] == ["a", "a/b", "a/b/c", "a/b/d", "a-b"]
    assert [entry.kind for entry in entries] == ["directory", "directory", "file", "file", "file"]


def test_refuses_two_entries_for_one_path() -> None:
    with pytest.raises(FileTreeError, match="two entries claim"):
        with_parents([file_entry("a", b"1"), file_entry("a", b"2")])


def test_refuses_a_file_below_a_file_or_a_symbolic_link() -> None:
    for blocker in (file_entry("a", b""), symlink_entry("a", "/etc")):
        with pytest.raises(FileTreeError, match="is no directory"):
            with_parents([blocker, file_entry("a/b", b"")])


def test_refuses_an_absolute_path() -> None:
    with pytest.raises(FileTreeError, match="isn't relative"):
        with_parents([file_entry("/etc/passwd", b"")])


def test_accepts_a_directory_that_is_named_twice_with_one_mode() -> None:
    assert len(with_parents([directory_entry("a"), directory_entry("a")])) == 1
    with pytest.raises(FileTreeError):
        with_parents([directory_entry("a"), directory_entry("a", mode=0o1777)])


def test_a_slice_yields_exactly_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    path = tmp_path / "f"
    path.write_bytes(data)
    source = SliceSource(path, size=2_500_000, offset=1234)
    assert b"".join(source.chunks()) == data[1234 : 1234 + 2_500_000]


def test_a_slice_of_a_file_that_shrank_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    with pytest.raises(FileTreeError, match="became shorter"):
        list(SliceSource(path, size=4).chunks())


def test_bytes_are_yielded_in_bounded_pieces() -> None:
    data = bytes(5_000_000)
    pieces = list(BytesSource(data).chunks())
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 1 << 20


def _deflated(path: Path, data: bytes, **changes: int) -> DeflatedSource:
    compressor = zlib.compressobj(wbits=-15)
    raw = compressor.compress(data) + compressor.flush()
    path.write_bytes(b"head" + raw + b"tail")
    fields = {
        "offset": 4,
        "compressed_size": len(raw),
        "size": len(data),
        "crc32": zlib.crc32(data),
    }
    for name, delta in changes.items():
        fields[name] += delta
    return DeflatedSource(path, **fields)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"abc" * 100_000, os.urandom(2_000_000), bytes(50_000_000)]
)
def test_inflates_a_raw_stream(tmp_path: Path, data: bytes) -> None:
    pieces = [bytes(piece) for piece in _deflated(tmp_path / "f", data).chunks()]
    assert b"".join(pieces) == data
    assert all(len(piece) <= 1 << 20 for piece in pieces)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 1}, "declared size"),
        ({"size": -1}, "more than its declared size"),
        ({"crc32": 1}, "CRC-32"),
        ({"compressed_size": 1}, "after the end"),
        ({"compressed_size": -5}, "declared size"),
        ({"compressed_size": 100}, "ends early|after the end"),
    ],
)
def test_refuses_a_stream_that_is_not_what_it_declares(
    tmp_path: Path, change: dict[str, int], reason: str
) -> None:
    source = _deflated(tmp_path / "f", b"dockyard" * 1000, **change)
    with pytest.raises(FileTreeError, match=reason):
        list(source.chunks())


def test_a_zip_bomb_stops_at_its_first_extra_piece(tmp_path: Path) -> None:
    source = _deflated(tmp_path / "f", bytes(200_000_000), size=-200_000_000 + 10)
    produced = 0
    with pytest.raises(FileTreeError, match="more than its declared size"):
        for piece in source.chunks():
            produced += len(piece)
    assert produced == 0


def test_refuses_noise_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(FileTreeError, match="DEFLATE"):
        list(DeflatedSource(path, offset=0, compressed_size=100, size=5, crc32=0).chunks())
