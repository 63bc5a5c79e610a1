"""The build context as Docker's client sends it: files, folders and links, by .dockerignore.

Rules: the Dockerfile's own ignore file (NAME.dockerignore) goes before .dockerignore. A folder that
is left out stays for what a later pattern takes back inside it. Modes are the files' own; owners
are root's. Sockets, pipes and devices can't be sent.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.app.dockerignore import PathPatterns, read_dockerignore
from dockyard.direct.filesystem import Node
from dockyard.errors import DockerfileError
from dockyard.files import SliceSource

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Context:
    """What can be copied, by path; "" is the context itself."""

    nodes: Mapping[str, Node]

    def matching(self, source: str) -> list[str]:
        """The paths that a source names, patterns included (Go's filepath.Match); sorted."""
        cleaned = posixpath.normpath("/" + source).lstrip("/")
        if not re.search(r"[*?\[]", cleaned):
            plain = re.sub(r"\\(.)", r"\1", cleaned)
            return [plain] if plain in self.nodes else []
        wanted = [_component(part) for part in cleaned.split("/")]
        found = []
        for path in self.nodes:
            parts = path.split("/")
            if (
                path
                and len(parts) == len(wanted)
                and all(
                    pattern.fullmatch(part) for pattern, part in zip(wanted, parts, strict=True)
                )
            ):
                found.append(path)
        return sorted(found)

    def below(self, folder: str) -> list[str]:
        """What is in a folder, at any depth; sorted."""
        prefix = folder + "/" if folder else ""
        return sorted(path for path in self.nodes if path.startswith(prefix) and path != folder)


def _component(part: str) -> re.Pattern[str]:
    """One component of a pattern as a regular expression."""
    result, at = "", 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "\\" and at < len(part):
            result += re.escape(part[at])
            at += 1
        elif character == "[":
            end = part.find("]", at + 1)
            if end < 0:
                result += re.escape(character)
                continue
            items = part[at:end]
            negated = items.startswith("^")
            inner = re.sub(r"([\[\\&~|])", r"\\\1", items[1:] if negated else items)
            result += f"[{'^' if negated else ''}{inner}]"
            at = end + 1
        else:
            result += re.escape(character)
    try:
        return re.compile(result, re.DOTALL)
    except re.error:
        return re.compile(re.escape(part))


def read_context(root: Path, dockerfile: str) -> Context:
    """Read a folder; raises DockerfileError for what can't be sent to a builder."""
    patterns = _patterns(root, dockerfile)
    nodes: dict[str, Node] = {}
    _walk(root, "", patterns, nodes)
    status = root.stat()
    nodes[""] = Node(kind="directory", mode=stat.S_IMODE(status.st_mode))
    return Context(nodes)


def _patterns(root: Path, dockerfile: str) -> PathPatterns:
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        path = root / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            return read_dockerignore(text, where=name)
    return PathPatterns([])


def _walk(root: Path, prefix: str, patterns: PathPatterns, nodes: dict[str, Node]) -> bool:
    """Add what is in a folder; whether something was."""
    try:
        with os.scandir(root / prefix) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DockerfileError(
            f"can't be read: {error.strerror or error}",
            where=prefix or str(root),
            hint="Make it readable, or write it into .dockerignore.",
        ) from None
    any_taken = False
    for entry in entries:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        status = entry.stat(follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        out = patterns.matches(path)
        if stat.S_ISDIR(status.st_mode):
            if out and not patterns.reaches_below(path, negated=True):
                continue
            inside = _walk(root, path, patterns, nodes)
            if inside or not out:
                nodes[path] = Node(kind="directory", mode=mode)
                any_taken = True
            continue
        if out:
            continue
        any_taken = True
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(entry.path)  # noqa: PTH115 - the text of the link
            nodes[path] = Node(kind="symlink", mode=0o777, target=target)
        elif stat.S_ISREG(status.st_mode):
            if not os.access(entry.path, os.R_OK):
                raise DockerfileError(
                    "can't be read: permission denied",
                    where=path,
                    hint="Make it readable, or write it into .dockerignore.",
                )
            source = SliceSource(Path(entry.path), status.st_size)
            nodes[path] = Node(kind="file", mode=mode, source=source)
        else:
            raise DockerfileError(
                "is a socket, pipe or device, which no image can hold",
                where=path,
                hint="Write it into .dockerignore.",
            )
    return any_taken
