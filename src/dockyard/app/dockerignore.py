"""Patterns as .dockerignore has them (moby/patternmatcher), which differ from Git's.

Rules:
- A pattern begins at the root: "*.log" matches no file in a folder; "**/*.log" does.
- "*" and "?" stay within one component; "**" crosses any number of them, none included.
- A pattern that matches a folder matches all that is below it.
- Lines are taken in order and the last match decides; "!" takes back, even what is inside a
  folder that is left out.
- "#" at the very start of a line is a comment; white space around a line is dropped; paths are
  cleaned as Go's filepath.Clean does, and a leading "/" is dropped.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from dockyard.errors import ProjectError


@dataclass(frozen=True, slots=True)
class _Rule:
    negated: bool
    text: str
    match: re.Pattern[str]


class PathPatterns:
    """An ordered list of patterns. Paths are POSIX and relative to the root."""

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        """Take (pattern, where) pairs; raises ProjectError for a pattern that is none."""
        self._rules = [_rule(text, where) for text, where in lines]
        self._prefixes = [(rule.negated, _prefix(rule.text.split("/"))) for rule in self._rules]
        # Consecutive rules of one kind are one regular expression, the last ones first.
        groups: list[tuple[bool, list[str]]] = []
        for rule in self._rules:
            if not groups or groups[-1][0] != rule.negated:
                groups.append((rule.negated, []))
            groups[-1][1].append(rule.match.pattern)
        self._groups = [
            (negated, re.compile("|".join(f"(?:{part})" for part in parts), re.DOTALL))
            for negated, parts in reversed(groups)
        ]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def matches(self, path: str) -> bool:
        """Whether the last rule that matches the path or a folder above it isn't negated."""
        for negated, expression in self._groups:
            if expression.fullmatch(path):
                return not negated
        return False

    def reaches_below(self, folder: str, *, negated: bool = False) -> bool:
        """Whether a pattern (a negated one, if asked) could match something below a folder."""
        parts = folder.split("/")
        return any(
            kind == negated
            and all(pattern.fullmatch(part) for pattern, part in zip(prefix, parts, strict=False))
            for kind, prefix in self._prefixes
        )


def read_dockerignore(text: str, *, where: str) -> PathPatterns:
    """Parse the text of a .dockerignore; raises ProjectError that names the line."""
    lines = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if pattern:
            lines.append((pattern, f"{where}:{number}"))
    return PathPatterns(lines)


def _rule(text: str, where: str) -> _Rule:
    negated = text.startswith("!")
    pattern = text[1:].strip() if negated else text
    if not pattern:
        raise ProjectError("'!' excludes nothing", where=where, hint="Write a pattern after it.")
    cleaned = posixpath.normpath(pattern)
    # normpath keeps two leading slashes, as POSIX allows; Go's Clean doesn't.
    cleaned = "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned
    if len(cleaned) > 1 and cleaned.startswith("/"):
        cleaned = cleaned[1:]
    try:
        expression = re.compile(_expression(cleaned), re.DOTALL)
    except (re.error, ValueError) as error:
        raise ProjectError(
            f"the pattern {pattern!r} isn't valid ({error})",
            where=where,
            hint="Brackets must be closed: [a-z].",
        ) from None
    return _Rule(negated, cleaned, expression)


def _expression(pattern: str) -> str:
    """The regular expression of a pattern, with all that is below what it matches."""
    return _translated(pattern) + "(?:/.*)?"


def _translated(pattern: str) -> str:
    result = ""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if pattern.startswith("*", at):
                at += 1
                if pattern.startswith("/", at):
                    at += 1
                result += ".*" if at >= len(pattern) else "(?:.*/)?"
            else:
                result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "\\":
            if at >= len(pattern):
                raise ValueError("it ends with a backslash")
            result += re.escape(pattern[at])
            at += 1
        elif character == "[":
            end, text = bracket(pattern, at, negations="^")
            result += text
            at = end
        else:
            result += re.escape(character)
    return result


def bracket(pattern: str, at: int, *, negations: str) -> tuple[int, str]:
    """Translate a class of characters, "[" being before `at`; returns its end and expression."""
    negated = pattern[at : at + 1] in tuple(negations)
    at += negated
    items = ""
    first = True
    while True:
        if at >= len(pattern):
            raise ValueError("a bracket isn't closed")
        character = pattern[at]
        if character == "]" and not first:
            break
        first = False
        if character == "\\" and at + 1 < len(pattern):
            at += 1
            items += re.escape(pattern[at])
        elif character == "-":
            items += "-" if items and pattern[at + 1 : at + 2] not in ("]", "") else "\\-"
        else:
            items += re.escape(character)
        at += 1
    # A class never matches the separator.
    return at + 1, f"(?!/)[{'^' if negated else ''}{items}]"


def _prefix(parts: list[str]) -> list[re.Pattern[str]]:
    """Expressions for the leading components, up to the first that may cross folders."""
    result = []
    for part in parts:
        if "**" in part:
            break
        result.append(re.compile(_translated(part), re.DOTALL))
    return result
