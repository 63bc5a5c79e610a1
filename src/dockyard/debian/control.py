"""Control stanzas and the relations in them (Debian policy 5 and 7).

Rules: a stanza is read once at the edge; relations are parsed to tuples of alternatives; versions
are compared as policy 5.6.12 says (by python-debian).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from dockyard.errors import DebianError

_RELATION = re.compile(
    r"""(?P<name>[a-zA-Z0-9][a-zA-Z0-9+.-]*)
        (?: : (?P<qualifier>[a-z0-9-]+))?
        (?: \s* \( \s* (?P<operator><<|<=|=|>=|>>|<|>) \s* (?P<version>\w[^\s)]*) \s* \))?
        (?: \s* \[ [^]]* \])? (?: \s* < [^>]* >)*
    """,
    re.VERBOSE,
)
# Policy 7.1: the single characters are old spellings that include equality.
_OLD = {"<": "<=", ">": ">="}


@dataclass(frozen=True, slots=True)
class Relation:
    """One package name with an optional constraint: "libc6 (>= 2.36)"."""

    name: str
    qualifier: str = ""
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether a package of this version meets the constraint.

        version: "" for a virtual package without one, which meets no constraint (policy 7.5).
        """
        if not self.operator:
            return True
        if not version:
            return False
        order = compare(version, self.version)
        return {
            "<<": order < 0,
            "<=": order <= 0,
            "=": order == 0,
            ">=": order >= 0,
            ">>": order > 0,
        }[self.operator]

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


@cache
def _version(text: str) -> Any:
    from debian.debian_support import NativeVersion

    try:
        return NativeVersion(text)
    except ValueError as error:
        raise DebianError(
            f"{text[:100]!r} is no Debian version",
            hint="The index or package is damaged; use another mirror.",
        ) from error


def compare(a: str, b: str) -> int:
    """Return a number below, at or above zero as version `a` is older, equal or newer than `b`."""
    if a == b:
        return 0
    x, y = _version(a), _version(b)
    return -1 if x < y else int(x > y)


def parse_relations(text: str, *, where: str) -> tuple[tuple[Relation, ...], ...]:
    """Parse a relationship field: a conjunction of alternatives; raises DebianError."""
    groups = []
    for group in text.split(","):
        alternatives = []
        for item in group.split("|"):
            if not item.strip():
                continue
            match = _RELATION.fullmatch(item.strip())
            if match is None:
                raise DebianError(
                    f"{item.strip()[:100]!r} is no package relation",
                    where=where,
                    hint="The index or package is damaged; use another mirror.",
                )
            operator = match["operator"] or ""
            alternatives.append(
                Relation(
                    match["name"],
                    match["qualifier"] or "",
                    _OLD.get(operator, operator),
                    match["version"] or "",
                )
            )
        if alternatives:
            groups.append(tuple(alternatives))
    return tuple(groups)


def parse_stanza(text: str) -> dict[str, str]:
    """Return a stanza's fields, names lower-case; folded lines keep their line ends."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += "\n" + line
        else:
            name, colon, value = line.partition(":")
            name = name.lower() if colon else ""
            if name:
                fields[name] = value.strip()
    return fields
