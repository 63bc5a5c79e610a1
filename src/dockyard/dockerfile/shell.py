"""The commands in a RUN line: enough of the shell's grammar to say what is run, in which order.

Rules (POSIX shell, 2.3 "Token Recognition"): quotes, comments, operators and redirections are
heeded; groups, conditions and loops are walked through, so that each command inside counts.
Reading never raises. `simple` says whether a script is nothing but commands joined by && - the
only kind of which Dockyard claims to know what it does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPERATORS = ("&&", "||", ";;", "|&", ";", "|", "&", "\n", "(", ")")
_RESERVED = frozenset(
    {"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "{", "}", "!", "time"}
)
_SKIPS_ALL = frozenset({"for", "case", "esac", "in", "function"})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_REDIRECTION = re.compile(r"\d*(?:>>|>&|<&|>\||<>|<<-?|<<<|>|<|&>>|&>)")
_WRAPPERS = frozenset({"sudo", "exec", "env", "command", "nice", "nohup"})


@dataclass(frozen=True, slots=True)
class Word:
    """A word without its quotes, and its place in the script; raw: as written."""

    text: str
    raw: str
    offset: int

    @property
    def end(self) -> int:
        """Where it ends in the script."""
        return self.offset + len(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A simple command: NAME=value before it, its words, where its output goes, what joins it.

    joined: the operator before it, "" for the first; targets: words after > and >>.
    """

    words: tuple[Word, ...]
    assignments: tuple[Word, ...] = ()
    targets: tuple[Word, ...] = ()
    joined: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The words' texts, those of sudo, env and the like left out."""
        return tuple(word.text for word in self.own)

    @property
    def own(self) -> tuple[Word, ...]:
        """The words from the program on, those of sudo, env and the like left out."""
        words = list(self.words)
        while len(words) > 1 and words[0].text in _WRAPPERS:
            words.pop(0)
            while len(words) > 1 and (words[0].text[:1] == "-" or _ASSIGNMENT.match(words[0].text)):
                words.pop(0)
        return tuple(words)

    @property
    def name(self) -> str:
        """The program's name, without its folder."""
        texts = self.texts
        return texts[0].rpartition("/")[2] if texts else ""

    def options(self) -> frozenset[str]:
        """The words that begin with "-", and the letters of short ones: "-rf" gives -r and -f."""
        found = set()
        for text in self.texts[1:]:
            if text.startswith("--"):
                found.add(text.partition("=")[0])
            elif text.startswith("-") and len(text) > 1:
                found.add(text)
                found.update("-" + letter for letter in text[1:] if letter.isalpha())
        return frozenset(found)

    def operands(self) -> tuple[Word, ...]:
        """The words after the program that don't begin with "-"."""
        return tuple(word for word in self.own[1:] if not word.text.startswith("-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """All commands of a script. simple: nothing but commands joined by &&."""

    commands: tuple[Command, ...]
    simple: bool


def read_script(text: str) -> Script:
    """Read a script; never raises."""
    return _Scanner(text).read()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.simple = True
        self.commands: list[Command] = []
        self.words: list[Word] = []
        self.targets: list[Word] = []
        self.joined = ""

    def read(self) -> Script:
        text, size = self.text, len(self.text)
        redirected = False
        while self.at < size:
            character = text[self.at]
            if character in " \t\r":
                self.at += 1
                continue
            if text.startswith("\\\n", self.at):
                self.at += 2
                continue
            if character == "#":
                end = text.find("\n", self.at)
                self.at = size if end < 0 else end
                continue
            operator = next((item for item in _OPERATORS if text.startswith(item, self.at)), None)
            redirection = _REDIRECTION.match(text, self.at)
            if redirection is not None and not (operator == "&" and text[self.at + 1] != ">"):
                self.at = redirection.end()
                self.simple = False
                redirected = True
                continue
            if operator is not None:
                self.end_command(operator)
                self.at += len(operator)
                redirected = False
                continue
            word = self.word()
            if redirected:
                self.targets.append(word)
                redirected = False
            else:
                self.words.append(word)
        self.end_command("")
        return Script(commands=tuple(self.commands), simple=self.simple)

    def word(self) -> Word:
        text, start, size = self.text, self.at, len(self.text)
        quote, pieces = "", []
        while self.at < size:
            character = text[self.at]
            if quote == "'":
                if character == "'":
                    quote = ""
                else:
                    pieces.append(character)
            elif character == "\\" and self.at + 1 < size:
                self.at += 1
                following = text[self.at]
                if quote and following not in '"$`\\\n':
                    pieces.append("\\")
                if following != "\n":
                    pieces.append(following)
            elif character == "'" and not quote:
                quote = "'"
            elif character == '"':
                quote = "" if quote else '"'
            elif character in "$`":
                self.simple = False
                length = self.substitution()
                pieces.append(text[self.at : self.at + length])
                self.at += length - 1
            elif not quote and (character.isspace() or character in "&|;()<>"):
                break
            else:
                if not quote and character in "*?[~":
                    self.simple = False
                pieces.append(character)
            self.at += 1
        if quote:
            self.simple = False
        return Word("".join(pieces), text[start : self.at], start)

    def substitution(self) -> int:
        """The length of $(…), ${…} or `…` that begins here; 1 for anything else."""
        text, at = self.text, self.at
        if text[at] == "`":
            end = text.find("`", at + 1)
            return (end if end >= 0 else len(text) - 1) - at + 1
        opened = text[at + 1 : at + 2]
        if opened not in ("(", "{"):
            return 1
        closes = {"(": ")", "{": "}"}[opened]
        depth = 0
        for position in range(at + 1, len(text)):
            if text[position] == opened:
                depth += 1
            elif text[position] == closes:
                depth -= 1
                if not depth:
                    return position - at + 1
        return len(text) - at

    def end_command(self, operator: str) -> None:
        words = self.words
        if words and words[0].text in _SKIPS_ALL and words[0].raw == words[0].text:
            self.simple = False
            words = []
        while words and words[0].text in _RESERVED and words[0].raw == words[0].text:
            self.simple = False
            words = words[1:]
        before = []
        while words and _ASSIGNMENT.match(words[0].raw):
            before.append(words[0])
            words = words[1:]
        if words or before or self.targets:
            self.commands.append(
                Command(
                    words=tuple(words),
                    assignments=tuple(before),
                    targets=tuple(self.targets),
                    joined=self.joined,
                )
            )
        elif operator == "&&" or (not operator and self.joined == "&&"):
            self.simple = False
        if operator not in ("&&", ""):
            self.simple = False
        self.joined = operator
        self.words, self.targets = [], []
