"""Files that maintainer scripts would have made: users, certificates, links, folders.

Rules: equal packages give equal bytes; nothing comes from the host.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.debian.deb import merged
from dockyard.debian.ldcache import triplet
from dockyard.errors import DebianError
from dockyard.files import (
    BytesSource,
    FileEntry,
    SliceSource,
    Source,
    directory_entry,
    file_entry,
    symlink_entry,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockyard.debian.deb import Deb
    from dockyard.debian.scripts import Alternative

BUNDLE = "etc/ssl/certs/ca-certificates.crt"
APP_USER, APP_ID = "app", 10001
_BUSYBOX = "usr/bin/busybox"
_FOLDERS = (
    *("boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys"),
    *("run/lock", "usr/local/bin", "usr/local/lib", "usr/local/sbin", "usr/local/share"),
    *("var/cache", "var/lib", "var/log", "var/spool"),
)
# Applets that act on a system, not in a container, or pass for a tool that they are not.
_UNWANTED = frozenset(
    (
        *("acpid", "busybox", "dpkg", "dpkg-deb", "getty", "halt", "init", "linuxrc", "login"),
        *("nuke", "poweroff", "reboot", "resume", "rpm", "rpm2cpio", "run-init", "su", "sulogin"),
        *("switch_root",),
    )
)


# Applets that other files name by their full path below /usr/sbin.
_IN_SBIN = frozenset({"nologin", "start-stop-daemon"})


def root_entries(
    *, architecture: str, python: str, shell: bool, user: str = APP_USER, uid: int = APP_ID
) -> list[FileEntry]:
    """Return the folders, links and small files every base has.

    user, uid: the unprivileged user (and its group) that images run as.
    """
    entries = [directory_entry(path) for path in _FOLDERS]
    entries += [directory_entry(path, mode=0o1777) for path in ("tmp", "var/tmp")]
    # All files of an image belong to root; a home that its user can write to is therefore one
    # that everybody can, as /tmp is.
    entries.append(directory_entry(f"home/{user}", mode=0o1777))
    links = ["bin", "lib", "sbin", *(["lib64"] if architecture == "amd64" else [])]
    entries += [symlink_entry(name, f"usr/{name}") for name in links]
    entries += [directory_entry(f"usr/{name}") for name in links]
    login = "/bin/sh" if shell else "/usr/sbin/nologin"
    texts = {
        "etc/passwd": f"root:x:0:0:root:/root:{login}\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        f"{user}:x:{uid}:{uid}:{user}:/home/{user}:{login}\n",
        # The groups of device files: GPUs (video, render) and terminals.
        "etc/group": "root:x:0:\ntty:x:5:\nvideo:x:44:\nrender:x:106:\nnogroup:x:65534:\n"
        f"{user}:x:{uid}:\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\ngshadow: files\n"
        "hosts: files dns\nnetworks: files\nprotocols: files\nservices: files\nethers: files\n"
        "rpc: files\n",
        "etc/timezone": "Etc/UTC\n",
    }
    entries += [file_entry(path, text.encode()) for path, text in texts.items()]
    entries += [
        symlink_entry("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
        symlink_entry("etc/mtab", "/proc/mounts"),
        symlink_entry("usr/bin/python3", f"python{python}"),
        symlink_entry("usr/bin/python", "python3"),
        # OpenSSL looks below /usr/lib/ssl (OPENSSLDIR); the openssl package would link it.
        symlink_entry("usr/lib/ssl/cert.pem", f"/{BUNDLE}"),
        symlink_entry("usr/lib/ssl/certs", "/etc/ssl/certs"),
        symlink_entry("var/lock", "/run/lock"),
        symlink_entry("var/run", "/run"),
    ]
    return entries


def loader_path(architecture: str) -> str:
    """Return where the dynamic loader itself lies, without a leading slash."""
    name = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}[architecture]
    return f"usr/lib/{triplet(architecture)}/{name}"


def content(source: Source | None) -> bytes:
    """Return a small file's bytes."""
    return b"".join(bytes(chunk) for chunk in source.chunks()) if source is not None else b""


def ca_bundle(deb: Deb) -> FileEntry:
    """Return the certificate bundle as update-ca-certificates writes it: sorted by file name."""
    pieces = []
    for entry in sorted(deb.entries, key=lambda entry: entry.path):
        if entry.path.startswith("usr/share/ca-certificates/") and entry.path.endswith(".crt"):
            pieces.append(content(entry.source).rstrip(b"\n") + b"\n")
    if not pieces:
        raise DebianError(
            "the package ca-certificates holds no certificates",
            where=f"{deb.name} {deb.version}",
            hint="Run `dockyard lock --upgrade` to take another version.",
        )
    return file_entry(BUNDLE, b"".join(pieces))


def busybox_links(deb: Deb, taken: Mapping[str, FileEntry]) -> list[FileEntry]:
    """Return a link for each applet of busybox whose name no package has.

    The names are read from the binary, which can't be run for another architecture: they lie
    together, sorted, each ended by NUL, and the list begins with the test command's two names.
    """
    (binary,) = (entry for entry in deb.entries if entry.path == _BUSYBOX)
    names = re.search(rb"\0(\[\0\[\[\0(?:[\w.+-]+\0){50,})", content(binary.source))
    if names is None:
        raise DebianError(
            "the list of commands in busybox isn't where it is expected",
            where=f"{deb.name} {deb.version}",
            hint="Build with shell = false, and report this.",
        )
    links = []
    for name in names[1].decode().split("\0"):
        if name and name not in _UNWANTED:
            paths = [f"usr/{folder}/{name}" for folder in ("bin", "sbin")]
            if not any(path in taken for path in paths):
                links.append(
                    symlink_entry(paths[1], "../bin/busybox")
                    if name in _IN_SBIN
                    else symlink_entry(paths[0], "busybox")
                )
    return links


def alternative_links(
    alternatives: Iterable[Alternative], exists: Mapping[str, FileEntry]
) -> list[FileEntry]:
    """Return the links that update-alternatives makes: of each name the highest priority wins."""
    best: dict[str, Alternative] = {}
    for one in sorted(alternatives, key=lambda one: (one.name, -one.priority, one.path)):
        best.setdefault(one.name, one)
    links: dict[str, FileEntry] = {}
    for one in best.values():
        for link, name, path in ((one.link, one.name, one.path), *one.slaves):
            real, source = merged(link), merged(path)
            if source in exists and real not in exists:
                links[real] = symlink_entry(real, f"/etc/alternatives/{name}")
                where = f"etc/alternatives/{name}"
                links[where] = symlink_entry(where, f"/{source}")
    return list(links.values())


def status_entries(deb: Deb, kept: Iterable[str]) -> list[FileEntry]:
    """Return what scanners read of a package: its control stanza, and sums of the files kept."""
    folder = "var/lib/dpkg/status.d"
    wanted = set(kept)
    sums = [
        line
        for line in deb.control.get("md5sums", "").splitlines()
        if merged(line.partition("  ")[2].strip()) in wanted
    ]
    control = deb.control["control"].strip() + "\n"
    return [
        file_entry(f"{folder}/{deb.name}", control.encode()),
        file_entry(f"{folder}/{deb.name}.md5sums", "".join(f"{one}\n" for one in sums).encode()),
    ]


def same_content(a: FileEntry, b: FileEntry) -> bool:
    """Whether two entries of one path may stand for each other."""
    if (a.kind, a.target, a.mode, a.size) != (b.kind, b.target, b.mode, b.size):
        return False
    if a.source is None or b.source is None:
        return a.source is b.source
    if isinstance(a.source, BytesSource | SliceSource) and a.source == b.source:
        return True
    return content(a.source) == content(b.source)
