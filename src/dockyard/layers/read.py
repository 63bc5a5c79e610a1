"""Every file that an image's layers hold, in one pass over their bytes.

Rules (image-spec layer.md): a file counts in the layer that holds its bytes; a later whiteout or a
later file of the same path makes it "deleted" or "replaced", and its bytes stay. Files of LARGE and
more are hashed, so that duplicates are known. Packages are told from what installers leave behind:
RECORD of a dist-info, dpkg's lists.
"""

from __future__ import annotations

import csv
import hashlib
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dockyard.errors import ImageError
from dockyard.layers.kinds import kind_of
from dockyard.oci.tree import OPAQUE, WHITEOUT, clean_path
from dockyard.oci.unpack import open_tar, tar_chunks
from dockyard.progress import SILENT

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

    from dockyard.oci.image import Image
    from dockyard.oci.layer import Layer
    from dockyard.progress import Reporter, Task

State = Literal["kept", "deleted", "replaced", "duplicate"]

LARGE = 4096
_MOST_LISTED = 8 << 20


@dataclass(slots=True)
class Held:
    """A file in a layer. package: "torch 2.13.0" or "libc6", "" when none claims it."""

    path: str
    layer: int
    size: int
    kind: str
    digest: bytes = b""
    state: State = "kept"
    package: str = ""


@dataclass(slots=True)
class Contents:
    """All files of an image, and which package claims which path."""

    held: list[Held] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)


def read_contents(image: Image, reporter: Reporter = SILENT) -> Contents:
    """Read an image's layers; raises ImageError for one that is damaged."""
    reader = _Reader()
    with reporter.task("Reading the layers", total=image.size) as task:
        for number, layer in enumerate(image.layers):
            with open_tar(_counted(layer, task), where=str(layer.descriptor.digest)) as archive:
                reader.layer(archive, number)
    contents = Contents(held=reader.held, owners=reader.owners)
    _name_packages(contents)
    _mark_duplicates(contents)
    return contents


def _counted(layer: Layer, task: Task) -> Iterator[bytes | memoryview]:
    yield from tar_chunks(layer)
    task.advance(layer.descriptor.size)


class _Reader:
    def __init__(self) -> None:
        self.held: list[Held] = []
        self.live: dict[str, Held] = {}
        # Folder -> names in it, so that whiteouts of folders needn't look at every file.
        self.below: dict[str, set[str]] = {}
        self.owners: dict[str, str] = {}

    def layer(self, archive: tarfile.TarFile, number: int) -> None:
        fresh: dict[str, Held] = {}
        gone: list[tuple[str, bool]] = []
        for member in archive:
            path = clean_path(member.name)
            folder, name = posixpath.split(path)
            if name == OPAQUE:
                gone.append((folder, True))
            elif name.startswith(WHITEOUT):
                gone.append((posixpath.join(folder, name.removeprefix(WHITEOUT)), False))
            elif member.isfile() and path:
                fresh[path] = self.file(archive, member, path, number)
            elif path and not member.isdir():
                self.replace(path)
        for path, only_inside in gone:
            if not only_inside:
                self.hide(path, "deleted")
            self.hide_below(path, "deleted")
        for path, item in fresh.items():
            self.replace(path)
            self.add(path, item)

    def file(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, number: int
    ) -> Held:
        item = Held(path, number, member.size, kind_of(path, member.size))
        self.held.append(item)
        stream = archive.extractfile(member)
        if stream is None:
            raise ImageError(f"/{path} can't be read", where=f"layer {number + 1}")
        if _lists_files(path) and member.size <= _MOST_LISTED:
            data = stream.read()
            self.owned(path, data)
            item.digest = hashlib.sha256(data).digest() if member.size >= LARGE else b""
        elif member.size >= LARGE:
            state = hashlib.sha256()
            while data := stream.read(1 << 20):
                state.update(data)
            item.digest = state.digest()
        return item

    def owned(self, path: str, data: bytes) -> None:
        """Note which package each listed path is of."""
        text = data.decode("utf-8", errors="replace")
        name = posixpath.basename(path)
        if name == "RECORD":
            site = posixpath.dirname(posixpath.dirname(path))
            project, _, version = (
                posixpath.basename(posixpath.dirname(path))
                .removesuffix(".dist-info")
                .partition("-")
            )
            try:
                rows = [row[0] for row in csv.reader(text.splitlines()) if row]
            except csv.Error:
                return
            for row in rows:
                where = posixpath.normpath(posixpath.join("/", site, row)).lstrip("/")
                self.owners[where] = f"{project} {version}"
        elif name.endswith(".list"):
            package = name.removesuffix(".list").partition(":")[0]
            for line in text.splitlines():
                self.owners[line.lstrip("/")] = package
        else:
            package = name.removesuffix(".md5sums").partition(":")[0]
            for line in text.splitlines():
                self.owners[line[34:].lstrip("/")] = package

    def add(self, path: str, item: Held) -> None:
        self.live[path] = item
        while path:
            folder, name = posixpath.split(path)
            names = self.below.setdefault(folder, set())
            if name in names:
                return
            names.add(name)
            path = folder

    def replace(self, path: str) -> None:
        """What lies at a path, or below it, when another file takes it."""
        self.hide(path, "replaced")
        self.hide_below(path, "replaced")

    def hide(self, path: str, state: State) -> None:
        item = self.live.pop(path, None)
        if item is not None:
            item.state = state

    def hide_below(self, path: str, state: State) -> None:
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            for name in self.below.pop(folder, ()):
                inner = posixpath.join(folder, name)
                self.hide(inner, state)
                waiting.append(inner)


def _lists_files(path: str) -> bool:
    return path.endswith(".dist-info/RECORD") or (
        path.startswith("var/lib/dpkg/") and path.endswith((".list", ".md5sums"))
    )


def _name_packages(contents: Contents) -> None:
    owners = contents.owners
    for item in contents.held:
        owner = owners.get(item.path)
        if owner is None and item.path.startswith("usr/"):
            # Merged /usr: dpkg's lists may have the old place (/lib/x for /usr/lib/x).
            owner = owners.get(item.path.removeprefix("usr/"))
        if owner is None and item.path.endswith(".pyc"):
            folder, name = posixpath.split(item.path)
            source = posixpath.join(posixpath.dirname(folder), name.partition(".")[0] + ".py")
            owner = owners.get(source)
        item.package = owner or ""


def _mark_duplicates(contents: Contents) -> None:
    seen: set[bytes] = set()
    for item in contents.held:
        if item.state == "kept" and item.digest:
            if item.digest in seen:
                item.state = "duplicate"
            seen.add(item.digest)
