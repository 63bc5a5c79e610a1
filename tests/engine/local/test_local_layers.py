"""Layers unpacked for overlayfs, and files and users looked up in them."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest

from dockyard.engine.local.layers import unpack_layer
from dockyard.engine.local.lookup import find_user, read_file
from dockyard.errors import EngineError, ImageError


def layer(folder, *members):
    """Unpack members: (name, content) for files, (name, type, target) for others."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, *what in members:
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if len(what) == 1:
                member.size = len(what[0])
                archive.addfile(member, io.BytesIO(what[0]))
            else:
                member.type, member.linkname = what
                archive.addfile(member)
    folder.mkdir()
    unpack_layer(b"", io.BytesIO(out.getvalue()), folder)
    return folder / "fs"


def test_whiteouts_become_what_overlayfs_reads(tmp_path):
    root = layer(tmp_path / "a", ("app/.wh.old.py", b""), ("data/.wh..wh..opq", b""))
    hidden = (root / "app/old.py").lstat()
    assert stat.S_ISCHR(hidden.st_mode)
    assert hidden.st_rdev == 0
    assert os.getxattr(root / "data", "user.overlay.opaque") == b"y"


UNSAFE = {
    "climbs out": [("../x", b"1")],
    "climbs out later": [("a/../../x", b"1")],
    "links to what is outside": [("a", tarfile.LNKTYPE, "../../etc/passwd")],
    "writes through a link": [("a", tarfile.SYMTYPE, "/tmp"), ("a/x", b"1")],
    "removes through a link": [("a", tarfile.SYMTYPE, "/tmp"), ("a/.wh.x", b"")],
    "replaces a folder by a file": [("a/x", b"1"), ("a", b"1")],
}


@pytest.mark.parametrize("members", UNSAFE.values(), ids=UNSAFE)
def test_refuses_a_layer_that(tmp_path, members):
    with pytest.raises(ImageError):
        layer(tmp_path / "a", *members)
    assert not (tmp_path / "x").exists()


def test_hard_links_share_their_file_and_later_members_win(tmp_path):
    root = layer(
        tmp_path / "a", ("x", b"one"), ("y", tarfile.LNKTYPE, "x"), ("z", b"old"), ("z", b"new")
    )
    assert (root / "x").stat().st_ino == (root / "y").stat().st_ino
    assert (root / "z").read_bytes() == b"new"


@pytest.fixture
def layers(tmp_path):
    passwd = b"root:x:0:0::/root:/bin/sh\napp:x:10001:10002::/home/app:/bin/sh\nbroken line\n"
    group = b"app:x:10002:\nvideo:x:44:app,other\n"
    below = layer(
        tmp_path / "below", ("etc/passwd", b"old:x:1:1::/:/"), ("run/x", b"1"), ("gone", b"1")
    )
    above = layer(
        tmp_path / "above",
        ("usr/etc/passwd", passwd),
        ("etc/passwd", tarfile.SYMTYPE, "../usr/etc/passwd"),
        ("etc/group", group),
        ("var/run", tarfile.SYMTYPE, "/run"),
        ("loop", tarfile.SYMTYPE, "loop"),
        (".wh.gone", b""),
    )
    return [below, above]


def test_files_are_found_through_layers_and_links(layers):
    assert read_file(layers, "/var/run/x") == "1"
    assert "10001" in read_file(layers, "/etc/passwd")
    assert [read_file(layers, path) for path in ("/gone", "/loop", "/etc", "/no/x")] == [None] * 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", (0, 0, ())),
        ("app", (10001, 10002, (44,))),
        ("10001", (10001, 10002, (44,))),
        ("app:video", (10001, 44, ())),
        ("77", (77, 0, ())),
        ("77:88", (77, 88, ())),
    ],
)
def test_users_are_those_of_the_image(layers, text, found):
    user = find_user(layers, text)
    assert (user.uid, user.gid, user.groups) == found


@pytest.mark.parametrize("text", ["nobody", "app:wheel", "old"])
def test_refuses_who_isnt_in_the_image(layers, text):
    with pytest.raises(EngineError, match=f"no user {text.partition(':')[0]}"):
        find_user(layers, text)
