"""The files that a container of an image sees: its layers, merged.

Rules (image-spec layer.md):
- A later layer's entry replaces an earlier one; what isn't a directory hides what was below it.
- ".wh.NAME" takes NAME away, ".wh..wh..opq" all that lower layers have in its folder; both speak
  of lower layers only, whatever their place in their own.
- Listing streams every layer once. Contents and hashes are read when asked for, in one more pass
  over just the layers that hold them.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dockyard.errors import ImageError
from dockyard.oci.unpack import open_tar, tar_chunks

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from dockyard.oci.image import Image
    from dockyard.oci.layer import Layer

TreeKind = Literal["file", "directory", "symlink", "hardlink", "device"]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_MAX_LINKS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """One path; layer is the number, from 0 at the bottom, of the layer that it is from.

    target is a symbolic link's text, or the path that a hard link shares its content with.
    """

    path: str
    layer: int
    kind: TreeKind
    size: int
    mode: int
    target: str = ""
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTree:
    """An image's files by path, without leading slashes; sorted."""

    image: Image
    files: Mapping[str, TreeFile]

    def resolve(self, path: str) -> str | None:
        """The path after following symbolic links, as in a container; None where it leads nowhere.

        Links are followed in each component, absolute ones from the image's root.
        """
        todo = [part for part in reversed(path.split("/")) if part]
        found: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del found[-1:]
                continue
            entry = self.files.get("/".join([*found, part]))
            if entry is None:
                return None
            if entry.kind == "symlink":
                links += 1
                if links > _MAX_LINKS:
                    return None
                if entry.target.startswith("/"):
                    found.clear()
                todo.extend(reversed(entry.target.split("/")))
            else:
                found.append(part)
        return "/".join(found)

    def read(self, path: str, *, max_size: int = 1 << 20) -> bytes | None:
        """The content of the regular file at `path`, links followed; None if there is none.

        Raises ImageError when it has more than max_size bytes.
        """
        resolved = self.resolve(path)
        entry = self.files.get(resolved) if resolved is not None else None
        if entry is not None and entry.kind == "hardlink":
            entry = self._linked(entry)
        if entry is None or entry.kind != "file":
            return None
        if entry.size > max_size:
            raise ImageError(
                f"/{entry.path} has {entry.size} bytes, more than the {max_size} looked for",
                where=str(self.image.digest),
            )
        with _opened(self.image.layers[entry.layer]) as archive:
            last = None
            for member in archive:
                # The last entry of a path in a layer is the one that counts.
                if clean_path(member.name) == entry.path and member.isfile():
                    file = archive.extractfile(member)
                    last = file.read() if file is not None else None
            return last

    def read_all(self, paths: Iterable[str], *, max_size: int = 1 << 20) -> dict[str, bytes]:
        """The content of the regular files among `paths`; one pass over the layers that hold them.

        Links aren't followed, but a hard link has the content of what it shares. What has more
        than max_size bytes is left out.
        """
        found: dict[str, bytes] = {}
        for number, names in sorted(self._holders(paths).items()):
            with _opened(self.image.layers[number]) as archive:
                for member in archive:
                    askers = names.get(clean_path(member.name))
                    if not askers or not member.isfile() or member.size > max_size:
                        continue
                    file = archive.extractfile(member)
                    if file is not None:
                        # The last entry of a path in a layer is the one that counts.
                        found |= dict.fromkeys(askers, file.read())
        return found

    def sha256(self, paths: Iterable[str]) -> dict[str, str]:
        """The SHA-256, hexadecimal, of the regular files among `paths`; one pass over their layers.

        Links aren't followed, but a hard link has the hash of what it shares.
        """
        found: dict[str, str] = {}
        for number, names in sorted(self._holders(paths).items()):
            with _opened(self.image.layers[number]) as archive:
                for member in archive:
                    askers = names.get(clean_path(member.name))
                    file = archive.extractfile(member) if askers and member.isfile() else None
                    if file is not None and askers:
                        # Not hashlib.file_digest: a streamed member has no readinto that skips.
                        state = hashlib.sha256()
                        while data := file.read(1 << 20):
                            state.update(data)
                        found |= dict.fromkeys(askers, state.hexdigest())
        return found

    def _holders(self, paths: Iterable[str]) -> dict[int, dict[str, list[str]]]:
        """Which layer holds each file: layer's number -> path in it -> the paths asked for."""
        wanted: dict[int, dict[str, list[str]]] = {}
        for path in paths:
            entry = self.files.get(path)
            if entry is not None and entry.kind == "hardlink":
                entry = self._linked(entry)
            if entry is not None and entry.kind == "file":
                wanted.setdefault(entry.layer, {}).setdefault(entry.path, []).append(path)
        return wanted

    def _linked(self, entry: TreeFile) -> TreeFile | None:
        for _ in range(_MAX_LINKS):
            other = self.files.get(entry.target)
            if other is None or other.kind != "hardlink":
                return other
            entry = other
        return None


def read_tree(image: Image) -> ImageTree:
    """List an image's files; streams all of its layers. Raises ImageError when one is damaged."""
    files: dict[str, TreeFile] = {}
    for number, layer in enumerate(image.layers):
        with _opened(layer) as archive:
            fresh, gone, emptied = _list_layer(archive, number)
        _merge(files, fresh, gone, emptied)
    return ImageTree(image=image, files=dict(sorted(files.items())))


def list_layer(layer: Layer, number: int = 0) -> dict[str, TreeFile]:
    """The files of one layer by path, whiteouts among them under their own names."""
    with _opened(layer) as archive:
        return {
            entry.path: entry
            for member in archive
            if (entry := _tree_file(member, clean_path(member.name), number)).path
        }


def clean_path(name: str) -> str:
    """A tar member's name as a path below the image's root: no "./", no slashes at the ends."""
    path = posixpath.normpath("/" + name).lstrip("/")
    return "" if path == "." else path


def _opened(layer: Layer) -> AbstractContextManager[tarfile.TarFile]:
    where = str(layer.descriptor.digest)
    return open_tar(iter(tar_chunks(layer)), where=where)


def _list_layer(
    archive: tarfile.TarFile, number: int
) -> tuple[dict[str, TreeFile], set[str], set[str]]:
    """What a layer adds, the paths that it takes away, and the folders that it empties first."""
    fresh: dict[str, TreeFile] = {}
    gone: set[str] = set()
    emptied: set[str] = set()
    for member in archive:
        path = clean_path(member.name)
        folder, name = posixpath.split(path)
        if name == OPAQUE:
            emptied.add(folder)
        elif name.startswith(WHITEOUT):
            gone.add(posixpath.join(folder, name.removeprefix(WHITEOUT)))
        elif path:
            fresh[path] = _tree_file(member, path, number)
    return fresh, gone, emptied


def _merge(
    files: dict[str, TreeFile], fresh: dict[str, TreeFile], gone: set[str], emptied: set[str]
) -> None:
    hidden = gone | {path for path, entry in fresh.items() if entry.kind != "directory"}
    if hidden or emptied:
        for path in [path for path in files if _is_hidden(path, hidden, gone, emptied)]:
            del files[path]
    files.update(fresh)
    for path, entry in fresh.items():  # not every tool writes a layer's parent folders
        while (path := posixpath.dirname(path)) and path not in files:
            files[path] = TreeFile(
                path=path, layer=entry.layer, kind="directory", size=0, mode=0o755
            )


def _is_hidden(path: str, hidden: set[str], gone: set[str], emptied: set[str]) -> bool:
    if path in gone or "" in emptied:
        return True
    while path := posixpath.dirname(path):
        if path in hidden or path in emptied:
            return True
    return False


def _tree_file(member: tarfile.TarInfo, path: str, number: int) -> TreeFile:
    kind: TreeKind = "device"
    target = ""
    if member.isfile():
        kind = "file"
    elif member.isdir():
        kind = "directory"
    elif member.issym():
        kind, target = "symlink", member.linkname
    elif member.islnk():
        kind, target = "hardlink", clean_path(member.linkname)
    return TreeFile(
        path=path,
        layer=number,
        kind=kind,
        size=member.size if kind == "file" else 0,
        mode=member.mode & 0o7777,
        target=target,
        uid=member.uid,
        gid=member.gid,
    )
