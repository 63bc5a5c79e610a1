"""ld.so.cache, with the real ldconfig as the judge."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from small_archive import elf

from dockyard.debian.ldcache import compare_names, find_libraries, make_cache, read_soname
from dockyard.files import BytesSource, SliceSource, file_entry, symlink_entry

FOLDER = "usr/lib/x86_64-linux-gnu"
LDCONFIG = shutil.which("ldconfig") or shutil.which("ldconfig", path="/usr/sbin:/sbin")


def library(name, soname=None, *, folder=FOLDER, machine=62):
    return file_entry(f"{folder}/{name}", elf(name if soname is None else soname, machine=machine))


ENTRIES = [
    symlink_entry("lib", "usr/lib"),
    file_entry("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n"),
    file_entry("etc/ld.so.conf.d/a.conf", b"# local\n/usr/local/lib\n/opt/none\n"),
    file_entry("etc/ld.so.conf.d/x.conf", b"/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n"),
    library("libc.so.6"),
    library("libz.so.1.2.13", "libz.so.1"),
    symlink_entry(f"{FOLDER}/libz.so.1", "libz.so.1.2.13"),
    symlink_entry(f"{FOLDER}/libz.so", "libz.so.1"),
    library("libfoo.so.2.10", "libfoo.so.2"),
    library("libfoo.so.2.9", "libfoo.so.2"),
    symlink_entry(f"{FOLDER}/libfoo.so.2", "libfoo.so.2.10"),
    symlink_entry(f"{FOLDER}/libalias-2.so", "libfoo.so.2.10"),
    library("libnosoname.so", ""),
    library("libplain.so"),
    symlink_entry(f"{FOLDER}/libgone.so.1", "missing.so"),
    symlink_entry(f"{FOLDER}/libabs.so.3", "/lib/x86_64-linux-gnu/libabs.so.3.1"),
    library("libabs.so.3.1", "libabs.so.3"),
    library("libarm.so.1", machine=183),
    library("plugin.so"),
    file_entry(f"{FOLDER}/libscript.so", b"/* GNU ld script */\n"),
    file_entry(f"{FOLDER}/libempty.so.1", b""),
    library("liblocal.so.1", folder="usr/local/lib"),
    library("libz.so.1", folder="usr/local/lib"),
    library("libhidden.so.1", folder=f"{FOLDER}/private"),
    library("liba2.so.1"),
    library("liba10.so.1"),
    library("libA.so.1"),
]


def lay_down(entries, root):
    for entry in entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "symlink":
            path.symlink_to(entry.target)
        else:
            path.write_bytes(entry.source.data)


@pytest.mark.skipif(LDCONFIG is None, reason="no ldconfig on this system")
def test_lists_what_the_real_ldconfig_lists(tmp_path):
    lay_down(ENTRIES, tmp_path)
    subprocess.run(
        [LDCONFIG, "-r", tmp_path, "-X", "-C", "/theirs", "-f", "/etc/ld.so.conf"],
        check=True,
        capture_output=True,
    )
    ours = make_cache(find_libraries(ENTRIES, architecture="amd64"), architecture="amd64")
    (tmp_path / "ours").write_bytes(ours)

    def printed(name):
        command = [LDCONFIG, "-p", "-C", tmp_path / name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [line.strip() for line in text.splitlines() if "=>" in line]

    assert printed("ours") == printed("theirs")
    assert len(printed("ours")) > 10


def test_equal_libraries_give_equal_bytes():
    one = make_cache(find_libraries(ENTRIES, architecture="amd64"), architecture="amd64")
    two = make_cache(find_libraries(ENTRIES[::-1], architecture="amd64"), architecture="amd64")
    assert one == two
    assert one.startswith(b"glibc-ld.so.cache1.1")


def test_lists_the_libraries_of_the_images_architecture():
    (found,) = find_libraries(
        [*ENTRIES, file_entry("etc/ld.so.conf.d/x.conf", f"/{FOLDER}\n".encode())],
        architecture="arm64",
    )
    assert found.name == "libarm.so.1"


@pytest.mark.parametrize(
    ("a", "b"),
    [("libfoo.so.2.9", "libfoo.so.2.10"), ("liba2", "liba10"), ("liba.so", "lib9.so"), ("a", "ab")],
)
def test_digits_compare_by_value(a, b):
    assert compare_names(a, b) < 0
    assert compare_names(b, a) > 0
    assert compare_names(a, a) == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (elf("libx.so.1"), "libx.so.1"),
        (elf(""), ""),
        (elf("x", machine=183), None),
        (elf("libx.so.1")[:100], None),
        (b"\x7fELF\x02\x01" + bytes(60), None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_reads_the_soname_from_memory_and_disk(tmp_path, data, expected):
    assert read_soname(BytesSource(data), "amd64") == expected
    path = tmp_path / "archive"
    path.write_bytes(b"before" + data + b"after")
    assert read_soname(SliceSource(path, len(data), 6), "amd64") == expected
