"""Packages as files: what is taken, what is changed, what is refused."""

from __future__ import annotations

import hashlib
import tarfile

import pytest
from small_archive import COMPRESS, ar, link, make_deb, special, tar_of

from dockyard.debian.deb import read_deb
from dockyard.errors import DebianError, DockyardError


def read(tmp_path, cache, data):
    path = tmp_path / "test.deb"
    path.write_bytes(data)
    return read_deb(path, sha256=hashlib.sha256(data).hexdigest(), cache=cache)


def files(deb):
    found = {}
    for entry in deb.entries:
        data = b"".join(bytes(chunk) for chunk in entry.source.chunks()) if entry.source else None
        found[entry.path] = (entry.kind, entry.mode, data if data is not None else entry.target)
    return found


@pytest.mark.parametrize("compression", COMPRESS)
def test_reads_every_compression(tmp_path, cache, compression):
    data, _ = make_deb("a", "1:2-3", [("./etc/a.conf", b"x" * 100_000)], compression=compression)
    deb = read(tmp_path, cache, data)
    assert (deb.name, deb.version) == ("a", "1:2-3")
    assert files(deb) == {"etc/a.conf": ("file", 0o644, b"x" * 100_000)}


def test_is_unpacked_once(tmp_path, cache):
    data, _ = make_deb("a", "1", [("./etc/a", b"1")])
    first = read(tmp_path, cache, data)
    (tmp_path / "test.deb").write_bytes(b"gone")
    again = read_deb(tmp_path / "test.deb", sha256=hashlib.sha256(data).hexdigest(), cache=cache)
    assert again.entries == first.entries


def test_moves_to_merged_usr_and_makes_links_follow(tmp_path, cache):
    data, _ = make_deb(
        "a",
        "1",
        [
            ("./bin/tool", b"1"),
            ("./lib/x86_64-linux-gnu/liba.so.1.0", b"2"),
            link("./lib/x86_64-linux-gnu/liba.so.1", "liba.so.1.0"),
            link("./lib/libb.so", "../usr/lib/libb.so.1"),
            link("./lib64/ld.so", "/lib/ld.so.2"),
            link("./usr/lib/libc.so", "../../lib/libc.so.1"),
            link("./usr/lib/libd.so", "libd.so.1"),
            link("./sbin", "usr/sbin"),
        ],
    )
    found = {path: value[2] for path, value in files(read(tmp_path, cache, data)).items()}
    assert found == {
        "usr/bin/tool": b"1",
        "usr/lib/x86_64-linux-gnu/liba.so.1.0": b"2",
        "usr/lib/x86_64-linux-gnu/liba.so.1": "liba.so.1.0",
        "usr/lib/libb.so": "libb.so.1",
        "usr/lib64/ld.so": "/lib/ld.so.2",
        "usr/lib/libc.so": "libc.so.1",
        "usr/lib/libd.so": "libd.so.1",
    }


def test_modes_are_two_and_owners_are_dropped(tmp_path, cache):
    def member(name, mode):
        info = tarfile.TarInfo(name)
        info.mode, info.uid, info.gid = mode, 33, 33
        return info, b"x"

    data, _ = make_deb(
        "a",
        "1",
        [
            member("./usr/bin/sudo", 0o4755),
            member("./etc/secret", 0o600),
            member("./usr/bin/odd", 0o711),
            special("./var/spool", tarfile.DIRTYPE, 0o2770),
            special("./var/crash", tarfile.DIRTYPE, 0o1777),
        ],
    )
    assert {path: value[1] for path, value in files(read(tmp_path, cache, data)).items()} == {
        "usr/bin/sudo": 0o755,
        "etc/secret": 0o644,
        "usr/bin/odd": 0o755,
        "var/spool": 0o755,
        "var/crash": 0o1777,
    }


def test_hard_links_become_copies(tmp_path, cache):
    members = [("./bin/perl", b"code"), link("./usr/bin/perl5", "./bin/perl", hard=True)]
    data, _ = make_deb("a", "1", members)
    found = files(read(tmp_path, cache, data))
    assert found["usr/bin/perl5"] == found["usr/bin/perl"] == ("file", 0o755, b"code")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        pytest.param(("../etc/passwd", b"x"), "climbs out", id="climbs out"),
        pytest.param(("./usr/../../x", b"x"), "climbs out", id="climbs out later"),
        pytest.param(("/etc/passwd", b"x"), "absolute", id="absolute"),
        pytest.param(("./etc/.wh.passwd", b"x"), "reserve", id="whiteout"),
        pytest.param(special("./dev/sda", tarfile.BLKTYPE), "no file, folder or link", id="block"),
        pytest.param(special("./dev/tty", tarfile.CHRTYPE), "no file, folder or link", id="char"),
        pytest.param(special("./run/pipe", tarfile.FIFOTYPE), "no file, folder or link", id="fifo"),
        pytest.param(link("./a", "./etc/shadow", hard=True), "to no file", id="hard link out"),
    ],
)
def test_refuses_unsafe_members(tmp_path, cache, member, message):
    data, _ = make_deb("a", "1", [member])
    with pytest.raises(DockyardError, match=message):
        read(tmp_path, cache, data)


def test_names_that_systemd_escapes_are_left_out(tmp_path, cache):
    name = "./lib/systemd/system/system-systemd\\x2dcryptsetup.slice"
    data, _ = make_deb("a", "1", [(name, b"x"), ("./usr/bin/a", b"x")])
    assert list(files(read(tmp_path, cache, data))) == ["usr/bin/a"]


def test_names_that_are_no_utf8_are_refused(tmp_path, cache):
    data, _ = make_deb("a", "1", [("./usr/share/caf\udce9", b"x")])
    with pytest.raises(DebianError, match="can't be unpacked"):
        read(tmp_path, cache, data)


CONTROL = COMPRESS[".xz"](tar_of([("./control", b"Package: a\nVersion: 1\n")]))
DATA = COMPRESS[".xz"](tar_of([("./x", b"x")]))
FORMAT = ("debian-binary", b"2.0\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "no Debian package", id="empty"),
        pytest.param(b"PK\3\4", "no Debian package", id="a zip"),
        pytest.param(ar([("control.tar.xz", CONTROL)]), "no Debian package", id="no format"),
        pytest.param(
            ar([("debian-binary", b"3.0\n"), ("control.tar.xz", CONTROL)]), "format", id="format 3"
        ),
        pytest.param(ar([FORMAT, ("data.tar.xz", DATA)]), "no control.tar", id="no control"),
        pytest.param(ar([FORMAT, ("control.tar.xz", CONTROL)]), "no data.tar", id="no data"),
        pytest.param(
            ar([FORMAT, ("control.tar.xz", CONTROL), ("data.tar.lzma", DATA)]),
            "no data.tar in a compression",
            id="lzma",
        ),
        pytest.param(
            ar([FORMAT, ("control.tar.xz", CONTROL), ("data.tar.xz", DATA[:-20])]),
            "ends early|can't be unpacked",
            id="truncated xz",
        ),
        pytest.param(
            ar([FORMAT, ("control.tar.xz", CONTROL), ("data.tar.xz", DATA)])[:-30],
            "ends early",
            id="truncated file",
        ),
        pytest.param(
            ar([FORMAT, ("control.tar.xz", CONTROL), ("data.tar.gz", b"not gzip")]),
            "can't be unpacked",
            id="no gzip",
        ),
        pytest.param(
            ar([FORMAT, ("control.tar.xz", CONTROL), ("data.tar.zst", b"not zstd")]),
            "can't be unpacked",
            id="no zstd",
        ),
        pytest.param(
            ar([FORMAT, ("control.tar", tar_of([])), ("data.tar.xz", DATA)]),
            "no control file",
            id="empty control",
        ),
        pytest.param(
            ar([FORMAT, ("control.tar.xz", CONTROL), ("data.tar", b"no tar" * 200)]),
            "can't be unpacked",
            id="no tar",
        ),
    ],
)
def test_refuses_damaged_packages(tmp_path, cache, data, message):
    with pytest.raises(DebianError, match=message) as caught:
        read(tmp_path, cache, data)
    assert "test.deb" in caught.value.where


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_stops_a_bomb(tmp_path, cache, compression):
    data, _ = make_deb("a", "1", [("./x", bytes(80 << 20))], compression=compression)
    with pytest.raises(DebianError, match="far more than it says"):
        read(tmp_path, cache, data)
    assert not list((cache.root / "tmp").iterdir())
