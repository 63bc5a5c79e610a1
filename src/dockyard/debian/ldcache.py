"""ld.so.cache: the loader's index of libraries, made as ldconfig makes it, without running it.

Rules (glibc: dl-cache.h, "new" format 1.1, and ldconfig.c):
- Folders in the order of ld.so.conf, then /lib and /usr/lib; of a folder every lib*.so* and
  ld-*.so* that is an ELF library of the image's architecture, under its DT_SONAME.
- Links of another name than the soname (libfoo.so for the linker) are entries of their own.
- Entries are sorted from the greatest name to the least, digits by value, as the loader's binary
  search expects. Equal libraries give equal bytes.
- glibc-hwcaps folders aren't listed: the loader then takes the generic library, which is right
  on every processor.
"""

from __future__ import annotations

import posixpath
import re
import struct
from dataclasses import dataclass
from functools import cmp_to_key
from typing import TYPE_CHECKING

from dockyard.files import BytesSource, SliceSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockyard.files import FileEntry

# elf.h: e_machine; dl-cache.h: flags (FLAG_ELF_LIBC6 | FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64).
_MACHINES = {"amd64": (62, 0x0303), "arm64": (183, 0x0A03)}
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_NAME = re.compile(r"(lib|ld-).*\.so")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_STRTAB, _DT_SONAME = 5, 14
_LARGEST_TABLE = 1 << 20


@dataclass(frozen=True, slots=True)
class Library:
    """What the cache says: the name that programs ask for, and an absolute path."""

    name: str
    path: str


def triplet(architecture: str) -> str:
    """Return the folder name of an architecture's libraries: "x86_64-linux-gnu"."""
    return _TRIPLETS[architecture]


def make_cache(libraries: Iterable[Library], *, architecture: str) -> bytes:
    """Return the bytes of /etc/ld.so.cache; of equal names the first given wins."""
    _, flags = _MACHINES[architecture]
    by_name = cmp_to_key(compare_names)
    ordered = sorted(libraries, key=lambda library: by_name(library.name), reverse=True)
    strings = bytearray()
    start = 48 + 24 * len(ordered)
    entries = bytearray()
    for library in ordered:
        path = start + len(strings)
        strings += library.path.encode() + b"\0"
        if library.path.endswith(f"/{library.name}"):  # the name is the path's end
            name = start + len(strings) - 1 - len(library.name.encode())
        else:
            name = start + len(strings)
            strings += library.name.encode() + b"\0"
        entries += struct.pack("<iIIIQ", flags, name, path, 0, 0)
    # struct cache_file_new: magic, version, counts, little-endian flag, no extensions.
    header = b"glibc-ld.so.cache" + b"1.1"
    header += struct.pack("<IIB3xI12x", len(ordered), len(strings), 2, 0)
    return bytes(header + entries + strings)


def compare_names(a: str, b: str) -> int:
    """Compare as _dl_cache_libcmp does: runs of digits by value, before other characters."""
    x, y = a.encode(), b.encode()
    i = j = 0
    while i < len(x) and j < len(y):
        if x[i : i + 1].isdigit():
            if not y[j : j + 1].isdigit():
                return 1
            first = re.match(rb"\d+", x[i:])
            second = re.match(rb"\d+", y[j:])
            assert first is not None and second is not None  # noqa: PT018 - both are digits
            if int(first[0]) != int(second[0]):
                return int(first[0]) - int(second[0])
            i += len(first[0])
            j += len(second[0])
        elif y[j : j + 1].isdigit():
            return -1
        elif x[i] != y[j]:
            return x[i] - y[j]
        else:
            i += 1
            j += 1
    return (len(x) - i) - (len(y) - j)


def find_libraries(entries: Iterable[FileEntry], *, architecture: str) -> list[Library]:
    """Return what ldconfig would list for a file system of these entries (merged /usr)."""
    files = {entry.path: entry for entry in entries if entry.kind != "directory"}
    found: list[Library] = []
    seen: set[str] = set()
    by_folder: dict[str, list[str]] = {}
    for path in files:
        by_folder.setdefault(posixpath.dirname(path), []).append(path)
    for shown in search_folders(files, architecture=architecture):
        folder = _real(shown.lstrip("/"))
        if folder in seen:
            continue
        seen.add(folder)
        names: dict[str, tuple[bool, str]] = {}
        for path in sorted(by_folder.get(folder, ())):
            library = _listed(path, files, architecture)
            if library is None:
                continue
            name, is_link = library
            known = names.get(name)
            file = posixpath.basename(path)
            if (
                known is None
                or (known[0] and not is_link)
                or (known[0] == is_link and compare_names(known[1], file) < 0)
            ):
                names[name] = (is_link, file)
        for name in sorted(names):
            # ldconfig would make the link NAME where only the file exists; nothing here does.
            file = name if f"{folder}/{name}" in files else names[name][1]
            found.append(Library(name, f"{shown}/{file}"))
    return found


def search_folders(files: Mapping[str, FileEntry], *, architecture: str) -> list[str]:
    """Return the folders of ld.so.conf and its includes, then the built-in ones."""
    folders: list[str] = []
    for path in sorted(files):
        if posixpath.dirname(path) == "etc/ld.so.conf.d" and path.endswith(".conf"):
            source = files[path].source
            text = b"".join(bytes(chunk) for chunk in source.chunks()) if source else b""
            for line in text.decode("utf-8", "replace").splitlines():
                line = line.partition("#")[0].strip()
                if line.startswith("/"):
                    folders.append(posixpath.normpath(line))
    return [*folders, "/lib", "/usr/lib"]


def _real(folder: str) -> str:
    return f"usr/{folder}" if folder.partition("/")[0] in ("lib", "lib64") else folder


def _listed(
    path: str, files: Mapping[str, FileEntry], architecture: str
) -> tuple[str, bool] | None:
    """Return the name to list `path` under, and whether that is only a link's name."""
    name = posixpath.basename(path)
    if not _NAME.match(name) or name.endswith(("-gdb.py", ".dpkg-new", ".dpkg-tmp")):
        return None
    real = _resolved(path, files)
    if real is None:
        return None
    elf = read_soname(files[real].source, architecture)
    if elf is None:
        return None
    # ldconfig.c, implicit_soname: a library without DT_SONAME goes by its file's name.
    soname = elf or name
    # ldconfig.c, search_dir: a link counts as one where it is the soname, or what a linker wants
    # (libfoo.so for libfoo.so.1); any other is taken for one more copy of the library.
    if files[path].kind == "symlink" and (
        name == soname or (name.endswith(".so") and soname.startswith(name))
    ):
        return name, True
    return soname, False


def _resolved(path: str, files: Mapping[str, FileEntry]) -> str | None:
    for _ in range(20):
        entry = files.get(path)
        if entry is None:
            return None
        if entry.kind == "file":
            return path
        joined = posixpath.join("/", posixpath.dirname(path), entry.target)
        path = _real(posixpath.normpath(joined).lstrip("/"))
    return None


def read_soname(source: object, architecture: str) -> str | None:
    """Return DT_SONAME of an ELF library, "" where it has none, None where it is no such library.

    Only 64-bit little-endian ELF of `architecture` counts.
    """
    read = _reader(source)
    if read is None:
        return None
    try:
        header = read(0, 64)
        if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
            return None
        kind, machine = struct.unpack_from("<HH", header, 16)
        if kind != 3 or machine != _MACHINES[architecture][0]:
            return None
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        segments = [
            struct.unpack_from("<IIQQQQQQ", read(offset + index * size, 56))
            for index in range(count)
        ]
        dynamic = next((part for part in segments if part[0] == _PT_DYNAMIC), None)
        if dynamic is None:
            return None
        table = read(dynamic[2], min(dynamic[5], _LARGEST_TABLE))
        tags = {
            tag: value
            for tag, value in struct.iter_unpack("<qQ", table[: len(table) // 16 * 16])
            if tag in (_DT_STRTAB, _DT_SONAME)
        }
        if _DT_SONAME not in tags or _DT_STRTAB not in tags:
            return ""
        address = tags[_DT_STRTAB] + tags[_DT_SONAME]
        return _string(read, address, segments)
    except (struct.error, UnicodeDecodeError):
        return None


def _string(read: _Read, address: int, segments: Sequence[tuple[int, ...]]) -> str:
    for part in segments:
        if part[0] == _PT_LOAD and part[3] <= address < part[3] + part[5]:
            return read(part[2] + address - part[3], 256).partition(b"\0")[0].decode()
    return ""


class _Read:
    """Reads pieces of a source that lies in memory or on disk."""

    def __init__(self, source: BytesSource | SliceSource) -> None:
        self._source = source

    def __call__(self, offset: int, size: int) -> bytes:
        source = self._source
        if isinstance(source, BytesSource):
            return source.data[offset : offset + size]
        with source.path.open("rb", buffering=0) as file:
            file.seek(source.offset + offset)
            return file.read(max(0, min(size, source.size - offset)))


def _reader(source: object) -> _Read | None:
    return _Read(source) if isinstance(source, BytesSource | SliceSource) else None
