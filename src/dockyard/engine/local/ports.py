"""Another port for an app that has no network of its own.

Rules: the local engine's containers are on the machine's network, so `-p 9000:8080` can only mean
that the app itself listens on 9000. That is done where the image says how: by a variable whose
name is PORT or ends so, or by an option of its start command. Else it is refused. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OPTION = re.compile(r"(?:--?[\w.-]*port|-p|--bind|-b|--listen|--address|--addr)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A start command and its environment, with another port in them."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def move_port(
    argv: Sequence[str], environment: Mapping[str, str], old: int, new: int
) -> Moved | None:
    """Have the app listen on `new` instead of `old`; None when it doesn't say how."""
    named = {
        name: str(new)
        for name, value in environment.items()
        if value == str(old) and (name == "PORT" or name.endswith("_PORT"))
    }
    if not named and any(re.search(r"\$\{?PORT\b", word) for word in argv):
        named = {"PORT": str(new)}
    moved = [_moved_word(argv, place, old, new) for place in range(len(argv))]
    if not named and moved == list(argv):
        return None
    return Moved(argv=tuple(moved), environment={**environment, **named})


def move_check(test: Sequence[str], old: int, new: int) -> list[str]:
    """A health check that asks the new port: its only number like that is the port."""
    return [re.sub(rf"(?<![\w.]){old}(?![\w.])", str(new), word) for word in test]


def _moved_word(argv: Sequence[str], place: int, old: int, new: int) -> str:
    word = argv[place]
    option, equals, value = word.partition("=")
    if equals and _OPTION.match(option) and _ends_with(value, old):
        return f"{option}={value.removesuffix(str(old))}{new}"
    if place and _OPTION.match(argv[place - 1]) and _ends_with(word, old):
        return f"{word.removesuffix(str(old))}{new}"
    # A shell's whole script is one word.
    return re.sub(
        rf"((?:--?[\w.-]*port|--bind|--listen|--addr(?:ess)?|-[pb])[ =](?:[\w.\[\]]*:)?){old}\b",
        rf"\g<1>{new}",
        word,
    )


def _ends_with(value: str, port: int) -> bool:
    """Whether the value is the port, or an address with it: 0.0.0.0:8000."""
    return re.fullmatch(rf"(?:\S*:)?{port}", value) is not None
