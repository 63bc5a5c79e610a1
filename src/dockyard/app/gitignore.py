"""Patterns as .gitignore has them (gitignore(5)).

Rules:
- A pattern without "/" (a trailing one aside) matches a name at any depth below its file; one
  with "/" matches from the folder of its file. A trailing "/" means folders only.
- "*" and "?" stay within one component; "**/", "/**" and "/**/" cross folders.
- The last match decides, within a file and among files, where deeper files come later. What is in
  an ignored folder can't be taken back, so such a folder needn't be entered.
- Whether Git tracks a file although it is ignored isn't asked: the answer is in Git's index.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.app.dockerignore import bracket

if TYPE_CHECKING:
    from collections.abc import Callable


class GitPatterns:
    """The patterns of one .gitignore. Paths are relative to its folder."""

    def __init__(self, text: str) -> None:
        # Consecutive patterns of one polarity are gathered: names at any depth, and paths, each
        # for everything and for folders only.
        groups: list[tuple[bool, list[list[str]]]] = []
        for line in text.removeprefix("\ufeff").split("\n"):
            parsed = _parse(line.removesuffix("\r"))
            if parsed is None:
                continue
            negated, kind, expression = parsed
            if not groups or groups[-1][0] != negated:
                groups.append((negated, [[], [], [], []]))
            groups[-1][1][kind].append(expression)
        self._groups = [
            (negated, [_compiled(parts) for parts in kinds]) for negated, kinds in reversed(groups)
        ]

    def __bool__(self) -> bool:
        return bool(self._groups)

    def decide(self, path: str, name: str, *, is_folder: bool) -> bool | None:
        """True: ignored; False: taken back; None: no pattern matches."""
        for negated, (names, folder_names, paths, folder_paths) in self._groups:
            if (
                (names is not None and names(name))
                or (paths is not None and paths(path))
                or (
                    is_folder
                    and (
                        (folder_names is not None and folder_names(name))
                        or (folder_paths is not None and folder_paths(path))
                    )
                )
            ):
                return not negated
        return None


def _compiled(parts: list[str]) -> Callable[[str], object] | None:
    if not parts:
        return None
    return re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL).fullmatch


def _parse(line: str) -> tuple[bool, int, str] | None:
    """(negated, kind, expression) of a line; None where it says nothing or is malformed.

    kind: 0 names, 1 folders' names, 2 paths, 3 folders' paths. Git, too, drops malformed lines.
    """
    line = _without_trailing_blanks(line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    pattern = line[1:] if negated else line
    folders_only = pattern.endswith("/") and not pattern.endswith("\\/")
    pattern = pattern.removesuffix("/") if folders_only else pattern
    is_path = "/" in pattern
    pattern = pattern.removeprefix("/")
    if not pattern:
        return None
    try:
        expression = _translated(pattern)
        re.compile(expression)
    except (ValueError, re.error):
        return None
    return negated, 2 * is_path + folders_only, expression


def _without_trailing_blanks(line: str) -> str:
    """Trailing spaces don't count unless a backslash quotes them."""
    end = len(line)
    while end and line[end - 1] == " ":
        backslashes = len(line[: end - 1]) - len(line[: end - 1].rstrip("\\"))
        if backslashes % 2:
            break
        end -= 1
    return line[:end]


def _translated(pattern: str) -> str:
    result = ""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        starts = at == 0 or pattern[at - 1] == "/"
        if starts and pattern.startswith("**/", at):
            result += "(?:.*/)?"
            at += 3
        elif starts and at > 0 and pattern[at:] == "**":
            result += ".+"
            at += 2
        elif character == "*":
            while pattern.startswith("*", at):
                at += 1
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
            at += 1
        elif character == "\\":
            if at + 1 >= len(pattern):
                raise ValueError("it ends with a backslash")
            result += re.escape(pattern[at + 1])
            at += 2
        elif character == "[":
            at, text = bracket(pattern, at + 1, negations="!^")
            result += text
        else:
            result += re.escape(character)
            at += 1
    return result
