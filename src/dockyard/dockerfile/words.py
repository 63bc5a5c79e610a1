"""Words and variables, as a Dockerfile's instructions (not their shells) read them.

Rules (Dockerfile reference, "Environment replacement"): ' keeps all as it is, " keeps spaces, the
escape character keeps the next one. $NAME, ${NAME}, ${NAME:-word}, ${NAME:+word} and the forms
without ":" are replaced; a name that isn't known makes the whole text unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODIFIED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])(.*))?", re.DOTALL)
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class RawWord:
    """A word with its quotes, and where it begins."""

    raw: str
    offset: int


def split_raw(text: str, escape: str = "\\", *, most: int = 0) -> list[RawWord]:
    """Split at white space outside of quotes; quotes stay. most: stop after so many words."""
    found: list[RawWord] = []
    at, size = 0, len(text)
    while at < size:
        if text[at].isspace():
            at += 1
            continue
        start, quote = at, ""
        while at < size and (quote or not text[at].isspace()):
            character = text[at]
            if character == escape and quote != "'":
                at += 1
            elif quote:
                quote = "" if character == quote else quote
            elif character in "\"'":
                quote = character
            at += 1
        found.append(RawWord(text[start:at], start))
        if most and len(found) >= most:
            break
    return found


def unquoted(raw: str, escape: str = "\\") -> str:
    """A word without its quotes and escapes; variables stay."""
    result, quote, at = "", "", 0
    while at < len(raw):
        character = raw[at]
        at += 1
        if character == escape and quote != "'" and at < len(raw):
            following = raw[at]
            if quote == '"' and following not in ('"', "$", escape):
                result += character
            result += following
            at += 1
        elif quote:
            if character == quote:
                quote = ""
            else:
                result += character
        elif character in "\"'":
            quote = character
        else:
            result += character
    return result


def assignments(text: str, escape: str = "\\") -> list[tuple[str, RawWord]]:
    """The pairs of ENV and LABEL: names and raw values; words that are none are left out.

    The old form, NAME value, gives one pair whose value is the rest of the line.
    """
    words = split_raw(text, escape)
    if words and "=" not in words[0].raw:
        if len(words) < 2:
            return []
        start = words[1].offset
        return [(unquoted(words[0].raw, escape), RawWord(text[start:], start))]
    found = []
    for word in words:
        name, equals, value = word.raw.partition("=")
        if equals and name:
            found.append((unquoted(name, escape), RawWord(value, word.offset + len(name) + 1)))
    return found


def misplaced_word(text: str, escape: str = "\\") -> int | None:
    """The offset of the first word of ENV or LABEL that is no NAME=value; None when all are."""
    words = split_raw(text, escape)
    if words and "=" not in words[0].raw:
        return 0 if len(words) < 2 else None
    return next((word.offset for word in words if word.raw.find("=") < 1), None)


def arguments(text: str, escape: str = "\\") -> list[tuple[str, str | None, int]]:
    """The names of ARG with raw default values (None without) and offsets."""
    found = []
    for word in split_raw(text, escape):
        name, equals, value = word.raw.partition("=")
        found.append((unquoted(name, escape), value if equals else None, word.offset))
    return found


def expand(
    raw: str,
    variables: Mapping[str, str],
    escape: str = "\\",
    *,
    missing: str | None = None,
    depth: int = 0,
) -> str | None:
    """A word with variables replaced and quotes removed; None where a value isn't known.

    missing: what stands for a value that isn't known, as "" does where all that are there are.
    """
    result, quote, at = "", "", 0
    while at < len(raw):
        character = raw[at]
        at += 1
        if character == escape and quote != "'" and at < len(raw):
            following = raw[at]
            if quote == '"' and following not in ('"', "$", escape):
                result += character
            result += following
            at += 1
        elif quote == "'":
            if character == "'":
                quote = ""
            else:
                result += character
        elif character == "'" and not quote:
            quote = "'"
        elif character == '"':
            quote = "" if quote else '"'
        elif character == "$":
            value, at = _variable(raw, at, variables, escape, depth)
            value = missing if value is None else value
            if value is None:
                return None
            result += value
        else:
            result += character
    return result


def _variable(
    raw: str, at: int, variables: Mapping[str, str], escape: str, depth: int
) -> tuple[str | None, int]:
    """The value of the variable whose "$" is before `at`, and where it ends."""
    if not raw.startswith("{", at):
        match = _NAME.match(raw, at)
        if match is None:
            return "$", at
        return variables.get(match.group()), match.end()
    end = _closing(raw, at + 1)
    match = _MODIFIED.fullmatch(raw[at + 1 : end]) if end is not None else None
    if match is None or end is None or depth > _DEEPEST:
        return None, len(raw)
    name, form, word = match[1], match[2] or "", match[3] or ""
    value = variables.get(name)
    given = bool(value) if form.startswith(":") else value is not None
    if form.endswith("-") and not given:
        value = expand(word, variables, escape, depth=depth + 1)
    elif form.endswith("+"):
        value = expand(word, variables, escape, depth=depth + 1) if given else ""
    return value, end + 1


def _closing(raw: str, at: int) -> int | None:
    depth = 1
    while at < len(raw):
        if raw[at] == "{":
            depth += 1
        elif raw[at] == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    return None
