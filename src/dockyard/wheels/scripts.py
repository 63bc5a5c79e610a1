"""Console scripts: from a wheel's entry points to the files in `bin`, as pip writes them.

Rules (the entry points specification, and pip where it says nothing):
- An entry point is `name = module:function`, perhaps with `[extras]`, which change nothing here.
- `gui_scripts` are the same file as `console_scripts` on Linux.
- pip and easy_install carry the versions of the machine that built the wheel in their entry points;
  pip replaces them by those of the Python that it installs for, and so do we.
- A shipped script whose first line begins `#!python` gets the environment's interpreter instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dockyard.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Linux reads 127 characters of a script's first line (BINPRM_BUF_SIZE, before 5.1).
_LONGEST_SHEBANG = 127

_GROUPS: Final = ("console_scripts", "gui_scripts")
_OBJECT = re.compile(
    r"(?P<module>\w+(?:\.\w+)*):(?P<function>\w+(?:\.\w+)*)"
    r"\s*(?:\[\s*[\w-]+(?:=\w+)?(?:,\s*\w+(?:=\w+)?)*\s*\])?"
)

_TEMPLATE = """\
import sys
from {module} import {first}
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit({function}())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoints:
    """The scripts that a wheel declares: name -> object, in both groups."""

    console: Mapping[str, str]
    gui: Mapping[str, str]

    def __contains__(self, name: object) -> bool:
        return name in self.console or name in self.gui


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """A script to write: its file name, and what it calls."""

    name: str
    value: str


def parse_entry_points(text: str, *, where: str) -> EntryPoints:
    """Return the console and GUI scripts of an `entry_points.txt`.

    In a group, later lines win over earlier ones of the same name. Raises WheelError for a line
    without "=".
    """
    group = None
    found: dict[str, dict[str, str]] = {group: {} for group in _GROUPS}
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif group in found:
            name, equals, value = line.partition("=")
            if not equals:
                raise WheelError(f"the entry point {line!r} has no '='", where=where, hint=_HINT)
            found[group][name.strip()] = value.strip()
    return EntryPoints(console=found["console_scripts"], gui=found["gui_scripts"])


def plan_scripts(entry_points: EntryPoints, *, python: str, where: str) -> Iterator[EntryPoint]:
    """Yield the scripts to write for `entry_points` under Python `python` ("3.11").

    A name may come twice: the later one, of a GUI script, wins.
    """
    left = dict(entry_points.console)
    major = python.partition(".")[0]
    if value := left.pop("pip", None):
        for name in [name for name in left if re.fullmatch(r"pip(\d+(\.\d+)?)?", name)]:
            del left[name]
        for suffix in ("", major, python):
            yield EntryPoint(name=f"pip{suffix}", value=value)
    if value := left.pop("easy_install", None):
        for name in [name for name in left if re.fullmatch(r"easy_install(-\d+\.\d+)?", name)]:
            del left[name]
        for suffix in ("", f"-{python}"):
            yield EntryPoint(name=f"easy_install{suffix}", value=value)
    for name, value in (*left.items(), *entry_points.gui.items()):
        if not name or name in (".", "..") or re.search(r"[/\\\s\0]", name) or name[0] == "[":
            raise WheelError(
                f"the entry point name {name!r} is no file name", where=where, hint=_HINT
            )
        yield EntryPoint(name=name, value=value)


def script_text(entry_point: EntryPoint, interpreter: str, *, where: str) -> bytes:
    """Return the script that calls `entry_point`; raises WheelError when it names no function."""
    match = _OBJECT.match(entry_point.value)
    rest = entry_point.value[match.end() :] if match else ""
    if match is None or rest.startswith(":") or "[" in rest or "]" in rest:
        raise WheelError(
            f"the entry point {entry_point.name} = {entry_point.value!r} names no function",
            where=where,
            hint=_HINT,
        )
    function = match["function"]
    text = _TEMPLATE.format(
        module=match["module"], first=function.partition(".")[0], function=function
    )
    return shebang(interpreter) + text.encode()


def shebang(interpreter: str) -> bytes:
    """Return the first line of a script; a shell's detour where Linux can't read the path."""
    path = interpreter.encode()
    if b" " not in path and len(path) + 3 <= _LONGEST_SHEBANG:
        return b"#!" + path + b"\n"
    return b"#!/bin/sh\n'''exec' \"" + path + b'" "$0" "$@"\n\' \'\'\'\n'


def is_placeholder(script: bytes) -> bool:
    """Whether a shipped script's first bytes ask for the environment's interpreter."""
    return script.startswith(b"#!python")


def with_interpreter(script: bytes, interpreter: str) -> bytes:
    """Return a shipped script with its `#!python` line replaced; arguments on it are dropped."""
    _, newline, rest = script.partition(b"\n")
    del newline
    return b"#!" + interpreter.encode() + b"\n" + rest


_SUFFIXES = (".exe", "-script.py", ".pya")


def is_wrapper(file_name: str, entry_points: EntryPoints) -> bool:
    """Whether a shipped script is the wrapper that setuptools made for one of the entry points."""
    lowered = file_name.lower()
    for suffix in _SUFFIXES:
        if lowered.endswith(suffix):
            return file_name[: -len(suffix)] in entry_points
    return file_name in entry_points


_HINT = "The wheel is wrong here; tell its maintainers, or pin another version."
