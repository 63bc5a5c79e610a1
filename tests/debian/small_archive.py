"""A Debian archive in a folder: hand-made packages, indexes, and a Release signed by a test key."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import struct
import tarfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache as remember

import zstandard

from dockyard.debian.mirror import Mirror

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@remember
def signing_key():
    import pysequoia

    return pysequoia.Tsk.generate(user_id="A test's archive <archive@example.org>")


def trusted():
    return (signing_key().extract_certificate(),)


def sign(text, key=None):
    import pysequoia

    signer = (key or signing_key()).signer()
    return pysequoia.sign(signer, text.encode(), mode=pysequoia.SignatureMode.CLEAR)


def tar_of(members):
    """members: (name, bytes) for a file, or a ready TarInfo, or (TarInfo, bytes)."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w:", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info, data = member
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.mode = 0o755 if "/bin/" in info.name else 0o644
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name, target, *, hard=False):
    info = tarfile.TarInfo(name)
    info.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    info.linkname = target
    return info


def special(name, kind, mode=0o644):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    return info


COMPRESS = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def ar(members):
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out


def make_deb(
    name,
    version="1",
    members=(),
    *,
    architecture="amd64",
    compression=".xz",
    scripts=None,
    fields=None,
):
    """Return (bytes of a .deb, its control stanza)."""
    lines = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "Someone <someone@example.org>",
        "Installed-Size": "100",
        **(fields or {}),
        "Description": "a test",
    }
    stanza = "".join(f"{key}: {value}\n" for key, value in lines.items())
    control = [("./control", stanza.encode())]
    control += [(f"./{key}", value.encode()) for key, value in (scripts or {}).items()]
    data = ar(
        [
            ("debian-binary", b"2.0\n"),
            ("control.tar" + compression, COMPRESS[compression](tar_of(control))),
            ("data.tar" + compression, COMPRESS[compression](tar_of(members))),
        ]
    )
    return data, stanza


class SmallArchive:
    """Packages by suite; `publish` writes indexes and the signed Release."""

    def __init__(self, root):
        self.root = root
        self.stanzas = {}
        self.mirror = Mirror(main=root.as_uri(), security=None, origin="a test")

    def add(self, name, version="1", members=(), *, suite="bookworm", **options):
        data, stanza = make_deb(name, version, members, **options)
        architecture = options.get("architecture", "amd64")
        filename = f"pool/main/{name}_{version}_{architecture}.deb".replace(":", "%3a")
        path = self.root / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        stanza += f"Filename: {filename}\nSize: {len(data)}\nSHA256: {digest}\n"
        self.stanzas.setdefault(suite, []).append(stanza)
        return path

    def publish(
        self,
        suite="bookworm",
        *,
        codename=None,
        architecture="amd64",
        date=NOW - timedelta(hours=1),
        valid_until=None,
        key=None,
        by_hash=True,
    ):
        folder = self.root / "dists" / suite
        packages = folder / "main" / f"binary-{architecture}"
        packages.mkdir(parents=True, exist_ok=True)
        data = lzma.compress("\n".join(self.stanzas.get(suite, [])).encode())
        (packages / "Packages.xz").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        (packages / "by-hash" / "SHA256").mkdir(parents=True, exist_ok=True)
        (packages / "by-hash" / "SHA256" / digest).write_bytes(data)
        text = f"Origin: Test\nSuite: stable\nCodename: {codename or suite}\n"
        if date is not None:
            text += f"Date: {format_datetime(date)}\n"
        if valid_until is not None:
            text += f"Valid-Until: {format_datetime(valid_until)}\n"
        if by_hash:
            text += "Acquire-By-Hash: yes\n"
        text += f"SHA256:\n {digest} {len(data)} main/binary-{architecture}/Packages.xz\n"
        (folder / "InRelease").write_bytes(sign(text, key))
        return packages / "Packages.xz"

    def add_python_base(self, *, libc="2.36-9+deb12u10"):
        """Add everything that the closure of a base for Python 3.11 holds, tiny."""
        libraries = "usr/lib/x86_64-linux-gnu"
        applets = ["[", "[[", "sh", "ls", "cat", "nologin", "dpkg", "halt"]
        applets += [f"applet{number}" for number in range(60)]
        self.add(
            "python3.11",
            "3.11.2-6",
            [
                ("./usr/bin/python3.11", b"an interpreter"),
                ("./usr/lib/python3.11/os.py", b"import sys\n"),
                ("./usr/lib/python3.11/test/support.py", b"nobody runs me\n"),
                ("./usr/share/man/man1/python3.11.1.gz", b"a page"),
                ("./usr/share/doc/python3.11/copyright", b"a licence"),
                ("./usr/share/doc/python3.11/README", b"a text"),
            ],
            fields={"Depends": "libc6 (>= 2.36), debconf (>= 0.5) | debconf-2.0"},
            scripts={
                "md5sums": "0" * 32 + "  usr/bin/python3.11\n" + "1" * 32 + "  usr/share/man/x\n",
                "postinst": "#!/bin/sh\npy_compile files\n",
            },
        )
        self.add(
            "libc6",
            libc,
            [
                (f"./lib/{libraries[8:]}/libc.so.6", elf("libc.so.6")),
                (f"./lib/{libraries[8:]}/ld-linux-x86-64.so.2", elf("ld-linux-x86-64.so.2")),
                link("./lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
                ("./etc/ld.so.conf.d/x86_64-linux-gnu.conf", b"/lib/x86_64-linux-gnu\n"),
            ],
        )
        self.add(
            "zlib1g",
            "1:1.2.13",
            [
                (f"./{libraries}/libz.so.1.2.13", elf("libz.so.1")),
                link(f"./{libraries}/libz.so.1", "libz.so.1.2.13"),
            ],
            fields={"Depends": "libc6 (>= 2.14)"},
        )
        self.add(
            "ca-certificates",
            "2025",
            [
                ("./usr/share/ca-certificates/mozilla/B.crt", b"-----B-----"),
                ("./usr/share/ca-certificates/mozilla/A.crt", b"-----A-----\n"),
            ],
            architecture="all",
            fields={"Depends": "openssl (>= 1.1.1), debconf | debconf-2.0"},
        )
        self.add(
            "busybox",
            "1:1.35",
            [("./bin/busybox", b"\x7fELF\0" + "\0".join(applets).encode() + b"\0\0code")],
        )
        self.add(
            "base-files",
            "12",
            [
                ("./usr/lib/os-release", b"ID=debian\n"),
                link("./etc/os-release", "../usr/lib/os-release"),
                link("./bin", "usr/bin"),
            ],
            fields={"Pre-Depends": "awk"},
            scripts={"postinst": "#!/bin/sh\ninstall_directory mnt 755 root\n"},
        )
        for name in (
            *("libc-bin", "libgomp1", "libstdc++6", "media-types", "ncurses-base", "netbase"),
            *("python3-distutils", "tzdata"),
        ):
            self.add(name, "1", [(f"./usr/share/doc/{name}/copyright", b"a licence")])


def elf(soname, *, machine=62):
    """Return the bytes of a shared library that is all headers."""
    strings = b"\0libc.so.6\0" + soname.encode() + b"\0"
    dynamic = struct.pack("<qQ", 5, 0x1000 + 64 + 3 * 56)
    dynamic += struct.pack("<qQ", 10, len(strings))
    if soname:
        dynamic += struct.pack("<qQ", 14, 11)
    if soname != "libc.so.6":
        dynamic += struct.pack("<qQ", 1, 1)
    dynamic += struct.pack("<qQ", 0, 0)
    start = 64 + 3 * 56
    total = start + len(strings) + len(dynamic)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x1000, 0x1000, total, total, 0x1000)
    offset = start + len(strings)
    part = struct.pack("<IIQQQQQQ", 2, 6, offset, 0x1000 + offset, 0, len(dynamic), len(dynamic), 8)
    null = struct.pack("<IIQQQQQQ", 0, 0, 0, 0, 0, 0, 0, 0)
    return header + load + part + null + strings + dynamic
