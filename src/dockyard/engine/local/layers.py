"""A layer's tar unpacked as a lower folder of overlayfs.

Rules: image-spec layer.md: names stay below the root, nothing is written through a symbolic link.
Whiteouts become what overlayfs has for them: a character device 0/0, and the attribute
`user.overlay.opaque` (kernel, overlayfs.rst, "userxattr"). As root files keep their owners; else
all belong to the caller. Device nodes are left out: a container gets its own /dev.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tarfile
from typing import IO, TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.oci.unpack import gunzip, open_tar, unzstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def unpack_layer(start: bytes, rest: IO[bytes], folder: Path) -> str:
    """Unpack a plain, gzip or zstd tar to `folder`/fs, its bytes' count beside it.

    start: its first bytes, which were read already.

    Returns the diff ID; raises ImageError for damage and unsafe names.
    """
    hashed = hashlib.sha256()
    tar = _hashing(_uncompressed(start, rest), hashed)
    root = folder / "fs"
    root.mkdir(mode=0o755)
    unpacker = _Unpacker(str(root))
    with open_tar(tar, where="the layer") as archive:
        for member in archive:
            unpacker.add(archive, member)
    for _ in tar:
        pass  # What follows the archive's end is part of the diff ID.
    unpacker.finish()
    (folder / "size").write_text(str(unpacker.size))
    return f"sha256:{hashed.hexdigest()}"


def _uncompressed(start: bytes, rest: IO[bytes]) -> Iterator[bytes | memoryview]:
    chunks = _chunks(start, rest)
    if start.startswith(b"\x1f\x8b"):
        return gunzip(chunks, where="the layer")
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return unzstd(chunks, where="the layer")
    return chunks


def _chunks(start: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield start
    while data := file.read(_CHUNK):
        yield data


def _hashing(
    chunks: Iterator[bytes | memoryview], hashed: hashlib._Hash
) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        hashed.update(chunk)
        yield chunk


class _Unpacker:
    """Writes members below a root; folders that it made are known to be no links."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders = {""}
        self._modes: dict[str, int] = {}
        self._owned = os.geteuid() == 0
        self.size = 0

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = _safe(member.name)
        if name == "":
            return
        parent, base = posixpath.split(name)
        self._need_folder(parent)
        path = f"{self._root}/{name}"
        if base == _OPAQUE:
            os.setxattr(f"{self._root}/{parent}", "user.overlay.opaque", b"y")
            return
        if base.startswith(_WHITEOUT):
            path = f"{self._root}/{parent}/{base.removeprefix(_WHITEOUT)}"
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            return
        if member.isdir():
            self._need_folder(name)
            self._modes[name] = member.mode & 0o7777
        elif member.isfile():
            self._write(archive, member, path)
        elif member.issym():
            _clear(path)
            os.symlink(member.linkname, path)  # noqa: PTH211 - one of thousands
        elif member.islnk():
            target = _safe(member.linkname)
            self._need_folder(posixpath.dirname(target))
            _clear(path)
            os.link(f"{self._root}/{target}", path, follow_symlinks=False)
        elif member.isfifo():
            _clear(path)
            os.mkfifo(path, member.mode & 0o777)
        else:
            return
        if self._owned:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
            if member.isfile():
                os.chmod(path, member.mode & 0o7777)  # noqa: PTH101 - chown cleared set-ID bits

    def finish(self) -> None:
        """Folders get their modes when all is in them, the deepest first."""
        for name in sorted(self._modes, reverse=True):
            # The caller must be able to enter and remove all that is its own.
            mode = self._modes[name] if self._owned else self._modes[name] | 0o700
            os.chmod(f"{self._root}/{name}", mode)  # noqa: PTH101

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        body = archive.extractfile(member)
        assert body is not None
        _clear(path)
        mode = member.mode & 0o7777 if self._owned else (member.mode & 0o777) | 0o400
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            while data := body.read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
            os.fchmod(handle, mode)
        finally:
            os.close(handle)
        self.size += member.size

    def _need_folder(self, name: str) -> None:
        if name in self._folders:
            return
        self._need_folder(posixpath.dirname(name))
        path = f"{self._root}/{name}"
        try:
            os.mkdir(path, 0o755)  # noqa: PTH102 - one of thousands
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise ImageError(f"a layer would write through what is no folder: {name}") from None
        self._folders.add(name)


def _safe(name: str) -> str:
    """The name without its root; raises ImageError for one that climbs out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageError(f"a layer has an unsafe name: {name!r}")
    return "/".join(parts)


def _clear(path: str) -> None:
    """A later member of one layer replaces an earlier one."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise ImageError(f"a layer has a folder and a file at one path: {path}") from None
