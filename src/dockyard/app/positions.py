"""The line of each key in a TOML text, since tomllib tells values but not where they stand.

Rules: the text is TOML that tomllib has accepted, so this scanner checks nothing and never raises;
what it can't follow it leaves out. A path holds keys and list indexes: ("ports", 0).
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\[\s\S])*?"""(?:"{1,2}(?!"))?')
_LONG_LITERAL = re.compile(r"'''[\s\S]*?'''(?:'{1,2}(?!'))?")
_SCALAR = re.compile(r"[^,\]}#\n]*")


class _Lost(Exception):
    """The scanner met something that it doesn't know."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, int] = {}

    def document(self) -> None:
        prefix: KeyPath = ()
        while True:
            self.blank()
            if self.at >= len(self.text):
                return
            start = self.at
            if self.text.startswith("[[", start):
                self.at += 2
                *above, last = self.key()
                self.expect("]")
                self.expect("]")
                base = (*self.within(above), last)
                index = self.tables.get(base, 0)
                self.tables[base] = index + 1
                self.record(base, start)
                prefix = (*base, index)
                self.record(prefix, start)
            elif self.text[start] == "[":
                self.at += 1
                prefix = self.within(self.key())
                self.expect("]")
                self.record(prefix, start)
            else:
                self.pair(prefix)

    def within(self, parts: list[str]) -> KeyPath:
        """The path of a header: inside a list of tables it means the last one."""
        path: KeyPath = ()
        for part in parts:
            path = (*path, part)
            if path in self.tables:
                path = (*path, self.tables[path] - 1)
        return path

    def record(self, path: KeyPath, offset: int) -> None:
        line = bisect_right(self.newlines, offset - 1) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _Lost
        self.at = match.end()
        return match.group()

    def expect(self, character: str) -> None:
        self.blank()
        if not self.text.startswith(character, self.at):
            raise _Lost
        self.at += 1

    def key(self) -> list[str]:
        parts = []
        while True:
            self.blank()
            first = self.text[self.at : self.at + 1]
            if first == '"':
                parts.append(tomllib.loads("k=" + self.take(_BASIC))["k"])
            elif first == "'":
                parts.append(self.take(_LITERAL)[1:-1])
            else:
                parts.append(self.take(_BARE_KEY))
            self.blank()
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def pair(self, prefix: KeyPath) -> None:
        start = self.at
        path = (*prefix, *self.key())
        self.record(path, start)
        self.expect("=")
        self.value(path)

    def value(self, path: KeyPath) -> None:
        self.blank()
        self.record(path, self.at)
        text, at = self.text, self.at
        if text.startswith('"""', at):
            self.take(_LONG_BASIC)
        elif text.startswith("'''", at):
            self.take(_LONG_LITERAL)
        elif text.startswith('"', at):
            self.take(_BASIC)
        elif text.startswith("'", at):
            self.take(_LITERAL)
        elif text.startswith("[", at):
            self.items(path)
        elif text.startswith("{", at):
            self.inline(path)
        else:
            self.take(_SCALAR)

    def items(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self.blank()
            if self.text.startswith("]", self.at):
                self.at += 1
                return
            self.value((*path, index))
            index += 1
            self.comma("]")

    def inline(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self.blank()
            if self.text.startswith("}", self.at):
                self.at += 1
                return
            self.pair(path)
            self.comma("}")

    def comma(self, end: str) -> None:
        self.blank()
        if self.text.startswith(",", self.at):
            self.at += 1
        elif not self.text.startswith(end, self.at):
            raise _Lost


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of each key and list item of a valid TOML text."""
    scanner = _Scanner(text)
    with contextlib.suppress(_Lost, RecursionError, ValueError, IndexError):
        scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of `path`, or of the nearest thing around it that has one."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None
