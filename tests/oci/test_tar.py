"""Tar headers: whatever the names, tarfile and GNU tar read what was meant."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.errors import ImageError
from dockyard.files import BytesSource, FileEntry, symlink_entry
from dockyard.oci import tar

_PART = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0\n\\"), min_size=1, max_size=90
).filter(lambda part: part not in (".", ".."))
_PATH = st.lists(_PART | st.sampled_from("abc"), min_size=1, max_size=6).map("/".join)


def read_back(entry: FileEntry, content: bytes = b"") -> tarfile.TarInfo:
    data = tar.header(entry) + content + tar.padding(len(content)) + tar.END
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as archive:
        (member,) = archive.getmembers()
    return member


@given(path=_PATH, content=st.binary(max_size=600), mode=st.sampled_from([0o644, 0o755]))
def test_a_file_of_any_name_is_read_back(path: str, content: bytes, mode: int) -> None:
    member = read_back(FileEntry(path=path, source=BytesSource(content), mode=mode), content)
    assert (member.name, member.size, member.mode) == (path, len(content), mode)
    assert member.isreg()


@given(path=_PATH, target=_PATH)
def test_a_link_of_any_name_and_target_is_read_back(path: str, target: str) -> None:
    member = read_back(symlink_entry(path, target))
    assert (member.name, member.linkname, member.issym()) == (path, target, True)


@given(path=_PATH, mode=st.sampled_from([0o755, 0o1777]))
def test_a_folder_of_any_name_is_read_back(path: str, mode: int) -> None:
    member = read_back(FileEntry(path=path, kind="directory", mode=mode))
    assert (member.name, member.mode, member.isdir()) == (path, mode, True)


@pytest.mark.parametrize(
    ("path", "blocks"),
    [
        ("a" * 100, 1),
        ("a" * 101, 3),
        ("p" * 155 + "/" + "a" * 100, 1),
        ("p" * 156 + "/" + "a" * 100, 3),
        ("p" * 155 + "/" + "a" * 101, 3),
        ("p/" + "a" * 100, 1),
        ("é", 3),
    ],
)
def test_a_pax_header_is_written_only_where_ustar_cannot_say_it(path: str, blocks: int) -> None:
    assert len(tar.header(FileEntry(path=path, source=BytesSource(b"")))) == blocks * 512
    assert read_back(FileEntry(path=path, source=BytesSource(b""))).name == path


def test_gnu_tar_lists_what_was_meant(tmp_path: Path) -> None:
    paths = ["a" * 100, "b" * 101, "p" * 155 + "/" + "c" * 100, "q" * 156 + "/" + "d" * 100, "é"]
    data = b"".join(tar.header(FileEntry(path=path, source=BytesSource(b""))) for path in paths)
    (tmp_path / "x.tar").write_bytes(data + tar.END)
    listed = subprocess.run(
        ["tar", "tf", tmp_path / "x.tar", "--quoting-style=literal"],
        check=True,
        capture_output=True,
    ).stdout
    assert listed.decode().split() == paths


def test_refuses_a_name_that_is_not_unicode() -> None:
    with pytest.raises(ImageError, match="isn't valid Unicode"):
        tar.header(FileEntry(path="a\udcff", source=BytesSource(b"")))
    with pytest.raises(ImageError, match="isn't valid Unicode"):
        tar.header(symlink_entry("a", "b\udcff"))
