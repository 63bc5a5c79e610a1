"""The parts of a Dockerfile, as data: each knows where in the file it stands.

Rules: lines and columns are counted from 1, offsets from 0. `rest` is an instruction's text after
its flags, with continued lines joined and comments dropped; `place` leads from there to the file.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import DockerfileError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYWORDS = frozenset(
    {
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
        *("LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME"),
        "WORKDIR",
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column."""

    line: int
    column: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A flag of an instruction: --name=value; value is None where there is no "="."""

    name: str
    value: str | None
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A here-document: its text, whether variables count in it, and its first line."""

    name: str
    text: str
    line: int
    expands: bool
    chomps: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that no builder takes: what, and where."""

    what: str
    place: Place
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction.

    keyword: upper case; line, end_line: first and last, here-documents counted; segments: where
    pieces of `rest` begin, as (offset in rest, line, column); trigger: what ONBUILD holds.
    """

    keyword: str
    rest: str
    line: int
    end_line: int
    column: int = 1
    flags: tuple[Flag, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    segments: tuple[tuple[int, int, int], ...] = ()
    trigger: Instruction | None = None

    def place(self, offset: int = 0) -> Place:
        """Where a character of `rest`, or of the here-documents after it, stands in the file."""
        past = offset - len(self.rest) - 1
        for document in self.heredocs if past >= 0 else ():
            if past < len(document.text):
                return Place(document.line + document.text.count("\n", 0, past))
            past -= len(document.text) + 1
        at = bisect_right(self.segments, offset, key=lambda segment: segment[0]) - 1
        if at < 0:
            return Place(self.line, self.column)
        start, line, column = self.segments[at]
        return Place(line, column + offset - start)

    def flag(self, name: str) -> str | None:
        """The value of the last flag of that name; None without one."""
        found = [flag.value for flag in self.flags if flag.name == name]
        return found[-1] if found else None

    @property
    def words(self) -> tuple[str, ...] | None:
        """The JSON form's words; None for the shell form."""
        return json_words(self.rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A Dockerfile that was read, with all its faults.

    directives: those of its first lines (syntax, escape, check); lines: the text's.
    """

    name: str
    instructions: tuple[Instruction, ...]
    faults: tuple[Fault, ...]
    directives: Mapping[str, str]
    lines: tuple[str, ...]
    escape: str = "\\"

    def check(self) -> Document:
        """Return the document, or raise DockerfileError that shows its first fault."""
        if self.faults:
            raise self.error(self.faults[0])
        return self

    def error(self, fault: Fault) -> DockerfileError:
        """The error for a fault, with the line and a caret below it."""
        line = self.lines[fault.place.line - 1] if fault.place.line <= len(self.lines) else ""
        shown = f"  {line.expandtabs(1)[:120]}\n  {' ' * min(fault.place.column - 1, 119)}^"
        hint = f"{shown}\n{fault.hint}" if fault.hint else shown
        return DockerfileError(fault.what, where=f"{self.name}:{fault.place.line}", hint=hint)


def json_words(text: str) -> tuple[str, ...] | None:
    """A JSON list of strings as words, as the exec form has them; None for anything else."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return tuple(words)
    return None
