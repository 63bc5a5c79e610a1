"""From the text of a Dockerfile to its instructions.

Rules (Dockerfile reference, and BuildKit's parser where the reference is silent):
- Parser directives are comments `# name=value` before anything else; `escape` is "\\" or "`".
- A line that ends with the escape character (white space after it allowed, another before it not)
  goes on in the next one. Comments and empty lines between are dropped.
- RUN, COPY and ADD may have here-documents, unless they are in JSON form.
- Reading never raises: what is wrong is a fault, and reading goes on with the next instruction.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace

from dockyard.dockerfile.syntax import (
    KEYWORDS,
    Document,
    Fault,
    Flag,
    Heredoc,
    Instruction,
    Place,
    json_words,
)
from dockyard.dockerfile.words import misplaced_word, split_raw, unquoted

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)")
_WITH_HEREDOC = frozenset({"RUN", "COPY", "ADD"})
_NEEDS_WORDS = KEYWORDS - {"CMD", "ENTRYPOINT"}
_FLAG_NAME = re.compile(r"--([a-z][a-z0-9-]*)(?:=(.*))?", re.DOTALL)


@dataclass(slots=True)
class _Joined:
    """The text of one instruction over its lines."""

    text: str = ""
    segments: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, piece: str, line: int, column: int) -> None:
        if piece:
            self.segments.append((len(self.text), line, column))
            self.text += piece

    def cut(self, start: int) -> tuple[tuple[int, int, int], ...]:
        """The segments of the text from `start` on."""
        found = []
        for index, (offset, line, column) in enumerate(self.segments):
            last = index + 1 == len(self.segments)
            end = len(self.text) if last else self.segments[index + 1][0]
            if end > start:
                skipped = max(0, start - offset)
                found.append((offset + skipped - start, line, column + skipped))
        return tuple(found)

    def place(self, offset: int) -> Place:
        found = self.segments[0] if self.segments else (0, 1, 1)
        for segment in self.segments:
            if segment[0] > offset:
                break
            found = segment
        return Place(found[1], found[2] + offset - found[0])


def parse(text: str, *, name: str = "Dockerfile") -> Document:
    """Read a Dockerfile's text; never raises."""
    written = text.removeprefix("\ufeff").removesuffix("\n")
    lines = tuple(line.removesuffix("\r") for line in written.split("\n"))
    reader = _Reader(lines)
    reader.read_directives()
    while reader.at < len(lines):
        reader.read_instruction()
    reader.check_first()
    return Document(
        name=name,
        instructions=tuple(reader.instructions),
        faults=tuple(sorted(reader.faults, key=lambda fault: fault.place.line)),
        directives=reader.directives,
        lines=lines,
        escape=reader.escape,
    )


class _Reader:
    def __init__(self, lines: tuple[str, ...]) -> None:
        self.lines = lines
        self.at = 0
        self.escape = "\\"
        self.directives: dict[str, str] = {}
        self.instructions: list[Instruction] = []
        self.faults: list[Fault] = []
        self.set_escape("\\")

    def set_escape(self, character: str) -> None:
        self.escape = character
        mark = re.escape(character)
        self.continues = re.compile(rf"(?:^|(?<=[^{mark}])){mark}[ \t]*$")

    def fault(self, what: str, place: Place, hint: str | None = None) -> None:
        self.faults.append(Fault(what=what, place=place, hint=hint))

    def read_directives(self) -> None:
        for number, line in enumerate(self.lines, 1):
            match = _DIRECTIVE.fullmatch(line.strip())
            if match is None or match[1].lower() not in _DIRECTIVES:
                return
            name, value = match[1].lower(), match[2]
            if name in self.directives:
                self.fault(f"the directive {name!r} stands twice", Place(number))
            self.directives[name] = value
            if name == "escape":
                if value in ("\\", "`"):
                    self.set_escape(value)
                else:
                    self.fault(f"escape must be \\ or `, not {value!r}", Place(number))

    def read_instruction(self) -> None:
        """Read what begins at the current line: nothing, or one instruction."""
        start = self.at
        joined = _Joined()
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            stripped = line.lstrip()
            if not stripped or stripped.startswith("#"):
                if not joined.segments:
                    return
                continue
            # Only the first line loses its white space on the left.
            column = len(line) - len(stripped) + 1 if not joined.segments else 1
            piece = line[column - 1 :]
            match = self.continues.search(piece)
            if match is None:
                joined.add(piece, self.at, column)
                break
            joined.add(piece[: match.start()], self.at, column)
            if not joined.segments:
                start = self.at
        if not joined.text.strip():
            return
        self.add_instruction(joined, start + 1)

    def add_instruction(self, joined: _Joined, line: int) -> None:
        made = self.instruction(joined, 0, line)
        if made is None:
            return
        inner = made.trigger or made
        documents: tuple[Heredoc, ...] = ()
        if inner.keyword in _WITH_HEREDOC and inner.words is None:
            documents = self.read_heredocs(inner)
        if documents and made.trigger is not None:
            made = replace(made, trigger=replace(inner, heredocs=documents, end_line=self.at))
        self.instructions.append(replace(made, heredocs=documents, end_line=self.at))

    def instruction(self, joined: _Joined, start: int, line: int) -> Instruction | None:
        """The instruction whose keyword begins at `start` of the joined text."""
        text = joined.text
        match = re.compile(r"\s*(\S+)\s*").match(text, start)
        if match is None:
            return None
        keyword, place = match[1].upper(), joined.place(match.start(1))
        if keyword not in KEYWORDS:
            near = difflib.get_close_matches(keyword, KEYWORDS, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]}?" if near else "Was a line before it continued?"
            self.fault(f"{match[1][:40]} is no instruction", place, hint)
            return None
        flags, begin = self.flags(joined, match.end())
        rest = text[begin:].rstrip()
        made = Instruction(
            keyword=keyword,
            rest=rest,
            line=place.line,
            end_line=self.at,
            column=place.column,
            flags=tuple(flags),
            segments=joined.cut(begin),
        )
        if not rest and keyword in _NEEDS_WORDS:
            self.fault(f"{keyword} needs something after it", place)
            return None
        if keyword == "ONBUILD":
            trigger = self.instruction(joined, begin, line)
            if trigger is not None and trigger.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
                self.fault(
                    f"ONBUILD can't hold {trigger.keyword}", Place(trigger.line, trigger.column)
                )
            return replace(made, trigger=trigger)
        self.check_words(made)
        return made

    def flags(self, joined: _Joined, at: int) -> tuple[list[Flag], int]:
        """The flags from `at` on, and where they end."""
        found: list[Flag] = []
        text = joined.text
        while text.startswith("--", at):
            raw = split_raw(text[at:], self.escape, most=1)
            word = raw[0].raw if raw else ""
            match = _FLAG_NAME.fullmatch(unquoted(word, self.escape))
            if match is None:
                break
            found.append(Flag(name=match[1], value=match[2], place=joined.place(at)))
            at += len(word)
            while at < len(text) and text[at].isspace():
                at += 1
        return found, at

    def check_words(self, made: Instruction) -> None:
        keyword, rest = made.keyword, made.rest
        if keyword == "FROM":
            words = rest.split()
            if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
                hint = "Write FROM image, or FROM image AS name."
                self.fault("FROM takes an image and perhaps a name", made.place(), hint)
        elif keyword in ("ENV", "LABEL"):
            wrong = misplaced_word(rest, self.escape)
            if wrong is not None:
                hint = f"Write {keyword} NAME=value, with quotes around spaces."
                self.fault(f"{keyword} needs NAME=value", made.place(wrong), hint)
        elif keyword in ("COPY", "ADD"):
            listed = json_words(rest) or rest.split()
            if len(listed) < 2:
                hint = "Write sources, then where they go."
                self.fault(f"{keyword} needs a source and a destination", made.place(), hint)
        elif keyword == "SHELL" and not json_words(rest):
            self.fault(
                "SHELL needs the JSON form", made.place(), 'Write SHELL ["/bin/bash", "-c"].'
            )
        elif keyword == "HEALTHCHECK":
            kind = rest.split(maxsplit=1)[0].upper()
            if kind not in ("CMD", "NONE"):
                self.fault("HEALTHCHECK needs CMD or NONE", made.place())

    def read_heredocs(self, made: Instruction) -> tuple[Heredoc, ...]:
        found = []
        for word in split_raw(made.rest, self.escape):
            match = _HEREDOC.fullmatch(word.raw)
            if match is None:
                continue
            name = re.sub(r"[\"'\\]", "", match[3])
            first, body = self.at, []
            while True:
                if self.at >= len(self.lines):
                    self.fault(
                        f"the here-document {name} doesn't end",
                        made.place(word.offset),
                        f"Write {name} alone on a line after it.",
                    )
                    break
                line = self.lines[self.at]
                self.at += 1
                line = line.lstrip("\t") if match[2] else line
                if line == name:
                    break
                body.append(line + "\n")
            found.append(
                Heredoc(
                    name=name,
                    text="".join(body),
                    line=first + 1,
                    expands=name == match[3],
                    chomps=bool(match[2]),
                )
            )
        return tuple(found)

    def check_first(self) -> None:
        """ARG alone may stand before the first FROM."""
        for made in self.instructions:
            if made.keyword == "FROM":
                return
            if made.keyword != "ARG":
                self.fault(
                    f"{made.keyword} stands before the first FROM", Place(made.line, made.column)
                )
                return
        if not self.faults:
            self.fault("there is no FROM", Place(1), "A Dockerfile starts with FROM image.")
