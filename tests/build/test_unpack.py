"""Entries on the host: whole, inside their folder, and once per key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dockyard.build.unpack import unpack_entries, unpacked
from dockyard.errors import BuildError, FileTreeError
from dockyard.files import BytesSource, FileEntry, directory_entry, file_entry, symlink_entry

if TYPE_CHECKING:
    from dockyard.cache import Cache


def test_files_directories_and_links_are_written_as_they_are_in_the_image(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        unpack_entries(
            [
                file_entry("usr/bin/tool", b"#!", executable=True),
                file_entry("usr/lib/a.txt", b"x" * 3_000_000),
                directory_entry("var/empty"),
                symlink_entry("lib", "usr/lib"),
                symlink_entry("absolute", "/usr/lib/a.txt"),
            ],
            tmp_path / "root",
        )
    finally:
        os.umask(mask)
    root = tmp_path / "root"
    assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "usr/lib/a.txt").stat().st_mode & 0o777 == 0o644
    assert (root / "lib/a.txt").read_bytes() == b"x" * 3_000_000
    assert (root / "absolute").readlink() == Path("/usr/lib/a.txt")
    assert list((root / "var/empty").iterdir()) == []


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([file_entry("../out", b"")], id="climbs out"),
        pytest.param([file_entry("/out", b"")], id="absolute"),
        pytest.param([symlink_entry("a", "/tmp"), file_entry("a/out", b"")], id="through a link"),
        pytest.param([file_entry("a", b"1"), file_entry("a", b"2")], id="twice"),
    ],
)
def test_nothing_is_written_outside(entries: list[FileEntry], tmp_path: Path) -> None:
    with pytest.raises(FileTreeError):
        unpack_entries(entries, tmp_path / "root")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="can't be unpacked") as caught:
        unpack_entries([file_entry("a", b"")], tmp_path / "file" / "root")
    assert str(tmp_path / "file") in (caught.value.where or "")


def test_a_key_is_unpacked_once(cache: Cache) -> None:
    calls: list[int] = []

    def entries() -> list[FileEntry]:
        calls.append(1)
        return [file_entry("a/b", b"content")]

    first = unpacked("key", entries, cache=cache)
    assert unpacked("key", entries, cache=cache) == first
    assert (first / "a/b").read_bytes() == b"content"
    assert calls == [1]
    assert unpacked("other key", entries, cache=cache) != first


def test_what_fails_in_the_middle_leaves_nothing(cache: Cache) -> None:
    class Broken(BytesSource):
        def chunks(self):
            yield b"some"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpacked("key", lambda: [file_entry("a", Broken(b"some more"))], cache=cache)
    assert list((cache.root / "unpacked").iterdir()) == []
    assert (unpacked("key", lambda: [file_entry("a", b"1")], cache=cache) / "a").exists()
