"""The files of a stage while it is built: the base's, and what each instruction changes.

Rules: paths have no leading slash. Changes are gathered until `take_layer`, which gives the entries
of one layer: what was made or changed, its folders with their own modes and owners, and whiteouts
(image-spec layer.md) for what was removed of lower layers.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dockyard.files import CHUNK, BytesSource, FileEntry
from dockyard.oci.tree import WHITEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.files import Source
    from dockyard.oci.tree import ImageTree

NodeKind = Literal["file", "directory", "symlink", "other"]
_MAX_LINKS = 40
_MAX_READ = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One path. source is None for what isn't a file."""

    kind: NodeKind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class TreeSource:
    """The bytes of a file of the base, read from its layer when they are wanted."""

    tree: ImageTree
    path: str

    @property
    def size(self) -> int:
        """Bytes in the file."""
        file = self.tree.files[self.path]
        return file.size if file.kind == "file" else len(self._read())

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes; raises ImageError for more than 64 MiB."""
        data = memoryview(self._read())
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    def _read(self) -> bytes:
        return self.tree.read(self.path, max_size=_MAX_READ) or b""


class FileSystem:
    """A stage's files. base: the tree of the image that it stands on, None for scratch."""

    def __init__(self, base: ImageTree | None) -> None:
        self.base = base
        self.nodes: dict[str, Node] = {}
        self.fresh: set[str] = set()
        self.gone: set[str] = set()
        for path, file in (base.files if base is not None else {}).items():
            kind: NodeKind = "other"
            if file.kind in ("file", "hardlink"):
                kind = "file"
            elif file.kind in ("directory", "symlink"):
                kind = "directory" if file.kind == "directory" else "symlink"
            self.nodes[path] = Node(
                kind=kind,
                mode=file.mode,
                uid=file.uid,
                gid=file.gid,
                target=file.target if kind == "symlink" else "",
                source=TreeSource(base, path) if base is not None and kind == "file" else None,
            )

    def copy(self) -> FileSystem:
        """The same files, for a stage that is built on this one."""
        other = FileSystem(None)
        other.base = self.base
        other.nodes = dict(self.nodes)
        return other

    def get(self, path: str) -> Node | None:
        """What is at a path, links not followed; the root is a directory."""
        if not path:
            return Node(kind="directory", mode=0o755)
        return self.nodes.get(path)

    def resolve(self, path: str) -> str:
        """The path with symbolic links followed, as far as it is there."""
        todo = [part for part in reversed(path.split("/")) if part]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                del done[-1:]
                continue
            node = self.nodes.get("/".join([*done, part]))
            if node is not None and node.kind == "symlink" and links < _MAX_LINKS:
                links += 1
                if node.target.startswith("/"):
                    done.clear()
                todo.extend(reversed([item for item in node.target.split("/") if item]))
                continue
            done.append(part)
        return "/".join(done)

    def is_folder(self, path: str) -> bool:
        """Whether a path, links followed, is a folder."""
        node = self.get(self.resolve(path))
        return node is not None and node.kind == "directory"

    def below(self, folder: str) -> list[str]:
        """Every path in a folder, at any depth; sorted."""
        prefix = folder + "/" if folder else ""
        return sorted(path for path in self.nodes if path.startswith(prefix))

    def read(self, path: str) -> bytes | None:
        """The bytes of a regular file, links followed; None when there is none.

        Raises ImageError for one of the base that is larger than 64 MiB.
        """
        real = self.resolve(path)
        node = self.nodes.get(real)
        if node is None or node.source is None:
            return None
        return b"".join(node.source.chunks())

    def put(self, path: str, node: Node) -> None:
        """Set what is at a path; what was below it goes when it isn't a directory any more."""
        before = self.nodes.get(path)
        if before is not None and before.kind == "directory" and node.kind != "directory":
            self.remove(path)
        self.nodes[path] = node
        self.fresh.add(path)

    def make_folders(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Make a folder and those above it, as far as they aren't there."""
        for folder in (*_parents(path), path):
            if folder and folder not in self.nodes:
                self.put(folder, Node(kind="directory", mode=mode, uid=uid, gid=gid))

    def change(self, path: str, **fields: int) -> None:
        """Change a node's mode or owner."""
        self.put(path, replace(self.nodes[path], **fields))  # type: ignore[arg-type]

    def remove(self, path: str) -> None:
        """Remove a path and what is below it."""
        for inner in [path, *self.below(path)]:
            if self.nodes.pop(inner, None) is not None:
                self.fresh.discard(inner)
        self.gone.add(path)

    def take_layer(self, lower: frozenset[str]) -> list[FileEntry]:
        """The entries of what changed since the last one, sorted as layers are; and forget it.

        lower: the paths that were there before.
        """
        wanted = set(self.fresh)
        entries: dict[str, FileEntry] = {}
        for path in self.gone:
            # A folder that was replaced needs no whiteout unless something of it was lower.
            if path in lower and path not in self.nodes:
                folder, name = posixpath.split(path)
                hidden = posixpath.join(folder, WHITEOUT + name)
                entries[hidden] = FileEntry(path=hidden, mode=0o644, source=BytesSource(b""))
                wanted.update(_parents(path))
            elif path in lower and self.nodes[path].kind == "directory":
                opaque = posixpath.join(path, WHITEOUT + WHITEOUT + ".opq")
                entries[opaque] = FileEntry(path=opaque, mode=0o644, source=BytesSource(b""))
        for path in self.fresh:
            wanted.update(_parents(path))
        for path in wanted:
            node = self.nodes.get(path)
            if node is not None and (path in self.fresh or node.kind == "directory"):
                entries[path] = _entry(path, node)
        self.fresh.clear()
        self.gone.clear()
        return [entries[path] for path in sorted(entries, key=lambda path: path.split("/"))]


def _entry(path: str, node: Node) -> FileEntry:
    assert node.kind != "other"
    return FileEntry(
        path=path,
        kind=node.kind,
        mode=node.mode,
        source=node.source,
        target=node.target,
        uid=node.uid,
        gid=node.gid,
    )


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: length + 1]) for length in range(len(parts))]
