"""COPY and ADD: what of a context or another stage goes where.

Rules (Dockerfile reference, "COPY"): a folder's contents are copied, not the folder; a destination
that ends with "/" or is a folder takes files inside; missing folders are made, as root's. Links
inside folders stay links; a link that is named itself is followed. Modes are kept, owners are
--chown's or root. Where Docker's builders differ from each other, the copy isn't understood.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from dockyard.direct.filesystem import Node

if TYPE_CHECKING:
    from dockyard.direct.context import Context
    from dockyard.direct.filesystem import FileSystem
    from dockyard.direct.refusal import Site


class Origin(Protocol):
    """Where files are copied from."""

    def matching(self, source: str) -> list[str]:
        """The paths that a source names."""

    def below(self, folder: str) -> list[str]:
        """What is in a folder, at any depth; sorted."""

    def node(self, path: str) -> Node:
        """What is at a path."""

    def follow(self, path: str) -> str | None:
        """The path with links followed; None where it leads nowhere."""


@dataclass(frozen=True, slots=True)
class FromContext:
    """The build context as an origin."""

    context: Context

    def matching(self, source: str) -> list[str]:
        """The paths that a source names."""
        return self.context.matching(source)

    def below(self, folder: str) -> list[str]:
        """What is in a folder."""
        return self.context.below(folder)

    def node(self, path: str) -> Node:
        """What is at a path."""
        return self.context.nodes[path]

    def follow(self, path: str) -> str | None:
        """Links of the context lead below it only."""
        for _ in range(20):
            node = self.context.nodes.get(path)
            if node is None or node.kind != "symlink":
                return path if node is not None else None
            if node.target.startswith("/"):
                return None
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), node.target))
            if path.startswith(".."):
                return None
        return None


@dataclass(frozen=True, slots=True)
class FromStage:
    """Another stage as an origin."""

    files: FileSystem

    def matching(self, source: str) -> list[str]:
        """The path, if it is there; patterns match nothing."""
        path = self.files.resolve(source.lstrip("/"))
        return [path] if self.files.get(path) is not None else []

    def below(self, folder: str) -> list[str]:
        """What is in a folder."""
        return self.files.below(folder)

    def node(self, path: str) -> Node:
        """What is at a path."""
        node = self.files.get(path)
        assert node is not None
        return node

    def follow(self, path: str) -> str | None:
        """The path, whose links were followed already."""
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One COPY or ADD. target: an absolute path; in_folder: whether it is written as a folder."""

    sources: tuple[str, ...]
    target: str
    in_folder: bool
    owner: tuple[int, int] | None = None
    mode: int | None = None


def carry_out(copy: Copy, origin: Origin, files: FileSystem, site: Site) -> None:
    """Copy into `files`; raises DockerfileError where a builder would, or NotUnderstood."""
    found: list[str] = []
    for source in copy.sources:
        matches = origin.matching(source)
        if not matches:
            raise site.fail(
                f"there is no {source} to copy", "Is it left out by .dockerignore, or misspelt?"
            )
        found += matches
    target = files.resolve(copy.target.strip("/"))
    in_folder = copy.in_folder or files.is_folder(target)
    if len(found) > 1 and not in_folder:
        raise site.fail("several sources need a destination that is a folder", "End it with /.")
    before = files.get(target)
    if before is not None and before.kind != "directory" and in_folder:
        raise site.fail(f"/{target} is a file, not a folder")
    for path in found:
        real = origin.follow(path)
        if real is None:
            raise site.refuse(f"{path} is a link that leads nowhere in the context")
        if origin.node(real).kind == "directory":
            _folder(copy, origin, real, target, files, site)
        else:
            place = posixpath.join(target, posixpath.basename(path)) if in_folder else target
            _parents(copy, posixpath.dirname(place), files, site, named=in_folder)
            _place(copy, origin.node(real), place, files, site)


def _folder(
    copy: Copy, origin: Origin, folder: str, target: str, files: FileSystem, site: Site
) -> None:
    existing = files.get(target)
    if existing is not None and existing.kind != "directory":
        raise site.fail(f"/{target} is a file, not a folder")
    if existing is None:
        _parents(copy, target, files, site, named=True)
    for path in origin.below(folder):
        inner = path[len(folder) + 1 :] if folder else path
        _place(copy, origin.node(path), posixpath.join(target, inner), files, site)


def _parents(copy: Copy, folder: str, files: FileSystem, site: Site, *, named: bool) -> None:
    """Make the folders that aren't there; named: whether the last one is the destination itself."""
    uid, gid = copy.owner or (0, 0)
    above = folder if not named else posixpath.dirname(folder)
    if (uid or gid) and files.get(folder) is None and above and files.get(above) is None:
        raise site.refuse(f"builders differ about who owns /{above}, which isn't there yet")
    files.make_folders(folder, uid=uid, gid=gid)


def _place(copy: Copy, node: Node, path: str, files: FileSystem, site: Site) -> None:
    uid, gid = copy.owner or (0, 0)
    mode = node.mode if copy.mode is None or node.kind == "symlink" else copy.mode
    made = replace(node, uid=uid, gid=gid, mode=mode)
    if node.kind == "other":
        raise site.refuse(f"/{path} would be a device or a pipe")
    existing = files.get(path)
    if existing is not None and existing.kind == "symlink" and files.is_folder(path):
        raise site.refuse(f"/{path} is a link to a folder")
    if existing is not None and "directory" in (existing.kind, node.kind):
        if existing.kind != node.kind:
            raise site.fail(f"/{path} is a folder on one side and a file on the other")
        if existing == made:
            return
        raise site.refuse(f"builders differ about the mode and owner of /{path}, a folder")
    files.put(path, made)
