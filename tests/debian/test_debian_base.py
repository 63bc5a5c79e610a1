"""A base assembled from a small archive, and packages on top of it."""

from __future__ import annotations

import json

import pytest
from small_archive import NOW, elf, link, trusted

from dockyard.debian.assembly import base_entries
from dockyard.debian.base import DebianBase, resolve_apt, resolve_base
from dockyard.debian.package import fetch_packages
from dockyard.errors import DebianError
from dockyard.fetch import Fetcher
from dockyard.files import with_parents


@pytest.fixture
def base_of(archive, fetcher, cache):
    archive.add_python_base()
    archive.publish()

    def resolve(**options):
        options = {
            "python": "3.11",
            "architecture": "amd64",
            "shell": True,
            "fetcher": fetcher,
            "cache": cache,
            "mirror": archive.mirror,
            "keys": trusted(),
            "now": NOW,
            **options,
        }
        return resolve_base(**options)

    return resolve


@pytest.fixture
def apt_of(archive, fetcher, cache):
    def resolve(names, base, **options):
        options = {"fetcher": fetcher, "cache": cache, "keys": trusted(), "now": NOW, **options}
        return resolve_apt(names, base, mirror=archive.mirror, **options)

    return resolve


@pytest.fixture
def files_of(archive, fetcher, cache):
    def files(base, apt=()):
        debs = fetch_packages([*base.packages, *apt], mirror=archive.mirror, fetcher=fetcher)
        found = base_entries(base, debs, apt, cache=cache)
        with_parents(found.base)
        with_parents(found.apt)
        return found

    return files


def by_path(entries):
    return {entry.path: entry for entry in entries}


def text(entry):
    return b"".join(bytes(chunk) for chunk in entry.source.chunks()).decode()


def test_a_base_says_what_it_is(base_of):
    base = base_of()
    assert (base.suite, base.python, base.glibc) == ("bookworm", "3.11", "2.36")
    names = [package.name for package in base.packages]
    assert names == sorted(names)
    assert "debconf" not in names
    assert "openssl" not in names


def test_without_a_shell_there_is_no_busybox(base_of, files_of):
    base = base_of(shell=False)
    assert "busybox" not in {package.name for package in base.packages}
    files = by_path(files_of(base).base)
    assert "usr/bin/sh" not in files
    assert "/bin/sh" not in text(files["etc/passwd"])


def test_a_base_survives_json(base_of):
    base = base_of()
    assert DebianBase.from_record(json.loads(json.dumps(base.to_record()))) == base


@pytest.mark.parametrize("record", [{}, {"packages": 3}, {"suite": "bookworm", "packages": [{}]}])
def test_refuses_a_record_that_is_no_base(record):
    with pytest.raises(DebianError, match="lock"):
        DebianBase.from_record(record)


def test_a_python_that_no_suite_has_is_refused_with_those_there_are(base_of):
    with pytest.raises(DebianError, match=r"no Debian base has Python 3\.12") as caught:
        base_of(python="3.12")
    assert "3.11 (bookworm) and 3.13 (trixie)" in caught.value.hint
    assert "python:3.12-slim" in caught.value.hint


def test_an_architecture_without_a_base_is_refused(base_of):
    with pytest.raises(DebianError, match="riscv64"):
        base_of(architecture="riscv64")


def test_holds_what_a_program_needs(base_of, files_of):
    files = by_path(files_of(base_of()).base)
    assert files["usr/bin/python3.11"].mode == 0o755
    assert files["usr/bin/python"].target == "python3"
    assert files["usr/bin/python3"].target == "python3.11"
    assert files["lib"].target == "usr/lib"
    assert files["lib64"].target == "usr/lib64"
    assert files["tmp"].mode == files["var/tmp"].mode == files["home/app"].mode == 0o1777
    assert text(files["etc/ssl/certs/ca-certificates.crt"]) == "-----A-----\n-----B-----\n"
    assert files["usr/lib/ssl/cert.pem"].target == "/etc/ssl/certs/ca-certificates.crt"
    assert "app:x:10001:10001:app:/home/app:/bin/sh" in text(files["etc/passwd"])
    assert "app:x:10001:" in text(files["etc/group"])
    assert text(files["usr/lib/os-release"]) == "ID=debian\n"
    assert files["etc/localtime"].target == "/usr/share/zoneinfo/Etc/UTC"
    cache = b"".join(bytes(chunk) for chunk in files["etc/ld.so.cache"].source.chunks())
    assert b"/lib/x86_64-linux-gnu/libz.so.1\0" in cache


def test_busybox_serves_the_names_that_nothing_else_has(base_of, files_of):
    files = by_path(files_of(base_of()).base)
    assert files["usr/bin/sh"].target == "busybox"
    assert files["usr/bin/["].target == "busybox"
    assert files["usr/sbin/nologin"].target == "../bin/busybox"
    assert "usr/bin/dpkg" not in files
    assert "usr/bin/halt" not in files


def test_leaves_out_what_no_program_reads_but_keeps_licences(base_of, files_of):
    files = by_path(files_of(base_of()).base)
    assert "usr/share/doc/python3.11/copyright" in files
    for path in (
        "usr/share/doc/python3.11/README",
        "usr/share/man/man1/python3.11.1.gz",
        "usr/lib/python3.11/test/support.py",
        "usr/share/ca-certificates/mozilla/A.crt",
    ):
        assert path not in files


def test_scanners_find_each_package(base_of, files_of):
    base = base_of()
    files = by_path(files_of(base).base)
    for package in base.packages:
        stanza = text(files[f"var/lib/dpkg/status.d/{package.name}"])
        assert f"Version: {package.version}\n" in stanza
    sums = text(files["var/lib/dpkg/status.d/python3.11.md5sums"])
    assert sums == "0" * 32 + "  usr/bin/python3.11\n"


def test_the_same_packages_give_the_same_files(base_of, files_of):
    base = base_of()

    def described():
        return [
            (entry.path, entry.kind, entry.mode, entry.target, entry.size)
            for entry in with_parents(files_of(base).base)
        ]

    assert described() == described()


def test_an_unchanged_base_asks_no_mirror(base_of, archive, cache):
    base = base_of()
    (archive.root / "dists/bookworm/InRelease").unlink()
    assert base_of(fetcher=Fetcher(cache, offline=True)) == base
    with pytest.raises(DebianError, match="no suite"):
        base_of(upgrade=True)


def test_upgrade_takes_new_versions(base_of, archive):
    base_of()
    archive.add("zlib1g", "1:1.3", fields={"Depends": "libc6"})
    archive.publish()
    assert {p.name: p.version for p in base_of().packages}["zlib1g"] == "1:1.2.13"
    assert {p.name: p.version for p in base_of(upgrade=True).packages}["zlib1g"] == "1:1.3"


def test_a_package_that_vanished_from_the_mirror_says_what_to_do(base_of, archive, fetcher):
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    from dockyard.debian.mirror import Mirror

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(archive.root))

        def log_message(self, *args):
            pass

    base = base_of()
    path = next((archive.root / "pool/main").glob("zlib1g*"))
    path.unlink()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with pytest.raises(DebianError, match="no longer has") as caught:
            fetch_packages(
                base.packages,
                mirror=Mirror(main=url, security=None, origin="a test"),
                fetcher=fetcher,
            )
    finally:
        server.shutdown()
        server.server_close()
    assert "dockyard lock --upgrade" in caught.value.hint
    assert "zlib1g" in caught.value.where


def test_packages_that_were_not_fetched_are_named(base_of, cache):
    with pytest.raises(DebianError, match="wasn't fetched"):
        base_entries(base_of(), {}, cache=cache)


def test_apt_adds_only_what_the_base_lacks(base_of, apt_of, archive, files_of):
    archive.add(
        "libfoo1",
        "2",
        [("./usr/lib/x86_64-linux-gnu/libfoo.so.1", elf("libfoo.so.1"))],
        fields={"Depends": "libbar1, zlib1g (>= 1:1.2), debconf"},
    )
    archive.add("libbar1", "1", [("./lib/x86_64-linux-gnu/libbar.so.1", elf("libbar.so.1"))])
    archive.publish()
    base = base_of()
    apt = apt_of(["libfoo1"], base)
    assert [(one.name, one.because) for one in apt] == [("libbar1", "libfoo1"), ("libfoo1", "")]
    found = files_of(base, apt)
    above = by_path(found.apt)
    assert "usr/lib/x86_64-linux-gnu/libbar.so.1" in above
    assert "var/lib/dpkg/status.d/libbar1" in above
    assert "usr/bin/python3.11" not in above
    cache = b"".join(bytes(chunk) for chunk in above["etc/ld.so.cache"].source.chunks())
    assert b"libfoo.so.1" in cache
    assert b"libz.so.1" in cache
    assert apt_of([], base) == ()


def test_an_unchanged_apt_list_asks_no_mirror(base_of, apt_of, archive, cache):
    archive.add("tool", "1", [("./usr/bin/tool", b"x")])
    archive.publish()
    base = base_of()
    apt = apt_of(["tool"], base)
    (archive.root / "dists/bookworm/InRelease").unlink()
    assert apt_of(["tool"], base, fetcher=Fetcher(cache, offline=True)) == apt


def test_apt_refuses_a_package_whose_script_matters(base_of, apt_of, archive, files_of):
    archive.add("server", "1", scripts={"postinst": "#!/bin/sh\nadduser --system server\n"})
    archive.publish()
    base = base_of()
    with pytest.raises(DebianError, match="the package server needs its postinst") as caught:
        files_of(base, apt_of(["server"], base))
    assert "adduser --system server" in caught.value.where


def test_apt_replaces_what_busybox_stood_for(base_of, apt_of, archive, files_of):
    archive.add("coreutils", "1", [("./bin/ls", b"the real one")])
    archive.add(
        "gawk",
        "1",
        [("./usr/bin/gawk", b"awk")],
        scripts={"postinst": "update-alternatives --install /usr/bin/applet1 a /usr/bin/gawk 1\n"},
    )
    archive.publish()
    base = base_of()
    above = by_path(files_of(base, apt_of(["coreutils", "gawk"], base)).apt)
    assert text(above["usr/bin/ls"]) == "the real one"
    assert above["usr/bin/applet1"].target == "/etc/alternatives/a"


def test_files_below_a_link_of_the_base_follow_it(base_of, apt_of, archive, files_of):
    archive.add("tool", "1", [("./var/run/tool/x", b"1"), link("./var/lock/y", "x")])
    archive.publish()
    base = base_of()
    above = by_path(files_of(base, apt_of(["tool"], base)).apt)
    assert "run/tool/x" in above
    assert above["run/lock/y"].target == "x"
    assert not any(path.startswith(("var/run", "var/lock")) for path in above)


@pytest.mark.parametrize(
    ("second", "fields", "expected"),
    [
        (b"other", {}, None),
        (b"one", {}, "one"),
        (b"other", {"Replaces": "a (<< 9)"}, "other"),
    ],
)
def test_two_packages_with_one_path(base_of, apt_of, archive, files_of, second, fields, expected):
    archive.add("a", "1", [("./etc/shared", b"one")])
    archive.add("b", "1", [("./etc/shared", second)], fields=fields)
    archive.publish()
    base = base_of()
    apt = apt_of(["a", "b"], base)
    if expected is None:
        with pytest.raises(DebianError, match="a and b both hold etc/shared"):
            files_of(base, apt)
    else:
        assert text(by_path(files_of(base, apt).apt)["etc/shared"]) == expected
