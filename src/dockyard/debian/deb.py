"""Binary packages: from a .deb (deb(5)) to the files it holds, without running any of it.

Rules:
- Its tar is unpacked once into the cache; files are slices of it, so none is held in memory.
- /bin, /sbin and /lib* are folders below /usr (merged /usr): paths are moved there.
- Hard links become copies; set-id bits, owners and odd modes are dropped; devices, sockets,
  sparse files and unsafe paths are refused.
- Nothing inflates beyond what Installed-Size makes believable.
"""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from dockyard.debian.contents import is_dropped
from dockyard.debian.control import parse_stanza
from dockyard.errors import DebianError
from dockyard.files import FileEntry, SliceSource, check_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dockyard.cache import Cache

# Part of the record's key: raise it when what a package becomes changes.
_VERSION = "1"
_CHUNK = 1 << 20
_LARGEST_CONTROL = 16 << 20
_MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})


@dataclass(frozen=True)
class Deb:
    """An unpacked package: its files, and the members of its control archive as text."""

    path: Path
    entries: tuple[FileEntry, ...]
    control: Mapping[str, str]

    @cached_property
    def fields(self) -> dict[str, str]:
        """The control stanza, names lower-case."""
        return parse_stanza(self.control["control"])

    @property
    def name(self) -> str:
        """The package's name."""
        return self.fields["package"]

    @property
    def version(self) -> str:
        """The package's version."""
        return self.fields["version"]


def read_deb(path: Path, *, sha256: str, cache: Cache) -> Deb:
    """Read the package in `path`, whose bytes are known to have this SHA-256.

    Raises DebianError naming the file when it is damaged or unsafe.
    """
    key = f"{sha256}-{_VERSION}"
    record = cache.read_record("debs", key)
    if record is None or not cache.has_blob(record["tar"]):
        with cache.lock(f"deb:{sha256}"):
            record = _unpack(path, cache)
            cache.write_record("debs", key, record)
    tar = cache.blob_path(record["tar"])
    entries = [
        FileEntry(
            path=name,
            kind=kind,
            mode=mode,
            source=SliceSource(tar, size, offset) if kind == "file" else None,
            target=target,
        )
        for name, kind, mode, size, offset, target in record["entries"]
    ]
    return Deb(path, tuple(entries), record["control"])


def _unpack(path: Path, cache: Cache) -> dict[str, Any]:
    try:
        members = _ar_members(path)
        control = _control(path, members)
        installed = parse_stanza(control["control"]).get("installed-size", "0")
        limit = (64 << 20) + 4096 * int(installed if installed.isdigit() else "0")
        with cache.writing_blob() as writer:
            for chunk in _inflated(path, members, "data.tar", limit):
                writer.write(chunk)
        tar = cache.blob_path(writer.hexdigest)
        with tarfile.open(tar, "r:", encoding="utf-8", errors="strict") as archive:
            entries = _entries(archive, where=path.name)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, UnicodeError) as error:
        raise _damaged(path, f"can't be unpacked: {error}") from error
    except OSError as error:
        raise _damaged(path, f"can't be read: {error.strerror}") from error
    return {"tar": writer.hexdigest, "entries": entries, "control": control}


def _damaged(path: Path, how: str) -> DebianError:
    return DebianError(
        f"the package {how}", where=str(path), hint="Remove the file and fetch it again."
    )


def _ar_members(path: Path) -> dict[str, tuple[int, int]]:
    """Return offset and size by member name (ar(5)); deb(5) asks for debian-binary first."""
    found: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise _damaged(path, "is no Debian package")
        end = path.stat().st_size
        while header := file.read(60):
            if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
                raise _damaged(path, "has a damaged member header")
            name = header[:16].decode("ascii").rstrip().rstrip("/")
            size = int(header[48:58])
            offset = file.tell()
            if offset + size > end:
                raise _damaged(path, "ends early")
            if not found and name != "debian-binary":
                raise _damaged(path, "is no Debian package")
            found[name] = (offset, size)
            file.seek(offset + size + size % 2)
        offset, size = found.get("debian-binary", (0, 0))
        file.seek(offset)
        if not file.read(size).startswith(b"2."):
            raise _damaged(path, "has a format that isn't known")
    return found


def _control(path: Path, members: dict[str, tuple[int, int]]) -> dict[str, str]:
    data = b"".join(_inflated(path, members, "control.tar", _LARGEST_CONTROL))
    control = {}
    with tarfile.open(fileobj=BytesIO(data), mode="r:") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                name = member.name.removeprefix("./")
                control[name] = content.read().decode("utf-8", "replace")
    fields = parse_stanza(control.get("control", ""))
    if not fields.get("package") or not fields.get("version"):
        raise _damaged(path, "has no control file")
    return control


def _inflated(
    path: Path, members: dict[str, tuple[int, int]], stem: str, limit: int
) -> Iterator[bytes]:
    """Yield the uncompressed bytes of the member called `stem` plus a compression's suffix."""
    for suffix in ("", ".gz", ".xz", ".zst"):
        if stem + suffix in members:
            break
    else:
        raise _damaged(path, f"has no {stem} in a compression that is known")
    offset, size = members[stem + suffix]
    produced = 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        raw = _raw(file, size)
        for chunk in _PIECES[suffix](raw):
            produced += len(chunk)
            if produced > limit:
                raise _damaged(path, f"unpacks to far more than it says (over {limit} bytes)")
            yield chunk


def _raw(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        data = file.read(min(_CHUNK // 4, size))
        if not data:
            raise EOFError("the file ends early")
        size -= len(data)
        yield data


# Each of these yields pieces of bounded size, however well the data is compressed.


def _of_gzip(raw: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    for data in raw:
        while data:
            yield inflater.decompress(data, _CHUNK)
            data = inflater.unconsumed_tail
    if not inflater.eof:
        raise EOFError("it ends early")


def _of_xz(raw: Iterator[bytes]) -> Iterator[bytes]:
    inflater = lzma.LZMADecompressor(memlimit=1 << 30)
    for data in raw:
        while data or not (inflater.needs_input or inflater.eof):
            yield inflater.decompress(data, _CHUNK)
            data = b""
    if not inflater.eof:
        raise EOFError("it ends early")


def _of_zstd(raw: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    try:
        source = cast("IO[bytes]", _Readable(raw))
        with zstandard.ZstdDecompressor().stream_reader(source) as reader:
            while chunk := reader.read(_CHUNK):
                yield chunk
    except zstandard.ZstdError as error:
        raise zlib.error(str(error)) from error


class _Readable(RawIOBase):
    """Chunks as a file, which is what zstandard reads in bounded pieces."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int = -1) -> bytes:
        """Return the next chunk, whatever its size: the reader keeps what it can't use yet."""
        return next(self._chunks, b"")


_PIECES: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "": iter,
    ".gz": _of_gzip,
    ".xz": _of_xz,
    ".zst": _of_zstd,
}


def merged(path: str) -> str:
    """Return where `path` lies once /bin, /sbin and /lib* are links into /usr."""
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path


def _entries(archive: tarfile.TarFile, *, where: str) -> list[tuple[Any, ...]]:
    """Return (path, kind, mode, size, offset, target) for each member of a data.tar."""
    found: dict[str, tuple[Any, ...]] = {}
    for member in archive:
        name = member.name.removeprefix("./").rstrip("/")
        if name in ("", "."):
            continue
        if "\\" in name and is_dropped(merged(name)):
            continue  # systemd escapes names with it; those units are left out
        path = merged(check_path(name, where=where))
        if member.isdir():
            # Sticky and writable for all: a folder like /tmp, the only mode that matters to run.
            mode = 0o1777 if member.mode & 0o1002 == 0o1002 else 0o755
            found.setdefault(path, (path, "directory", mode, 0, 0, ""))
        elif member.issym() and name in _MERGED:
            continue  # the links of merged /usr themselves, which every base has
        elif member.issym():
            target = _merged_target(name, path, member.linkname)
            found[path] = (path, "symlink", 0o777, 0, 0, target)
        elif member.islnk():
            other = merged(member.linkname.removeprefix("./"))
            if other not in found or found[other][1] != "file":
                raise _unsafe(where, f"a hard link {name!r} to no file of it")
            found[path] = (path, *found[other][1:])
        elif member.isreg() and not member.issparse():
            mode = 0o755 if member.mode & 0o111 else 0o644
            found[path] = (path, "file", mode, member.size, member.offset_data, "")
        else:
            raise _unsafe(where, f"{name!r}, which is no file, folder or link")
    return list(found.values())


def _merged_target(name: str, path: str, target: str) -> str:
    """Return what the link must say once both its ends lie below /usr."""
    if not target or "\0" in target or "\n" in target:
        return "."
    if target.startswith("/") or (name == path and not target.startswith("..")):
        return target
    folder = posixpath.dirname(name)
    aim = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
    return posixpath.relpath("/" + merged(aim), "/" + posixpath.dirname(path))


def _unsafe(where: str, what: str) -> DebianError:
    return DebianError(
        f"the package holds {what}", where=where, hint="It can't be used without running it."
    )
