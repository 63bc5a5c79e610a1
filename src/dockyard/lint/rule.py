"""A rule, and the list of all rules.

Rules: a rule explains itself: what it costs in general, why, and three small projects as proof. The
tests run it on them, and the pages in docs/rules are made of them. Its check reads a `Subject` and
gives hits; it never raises for what users write.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dockyard.lint.finding import Hit, Severity
    from dockyard.lint.subject import Subject

    Check = Callable[[Subject], Iterable[Hit]]

_THEMES = (
    *("syntax", "context", "dependencies", "support", "layers", "downloads", "start", "serving"),
    *("gpu", "models", "secrets"),
)


@dataclass(frozen=True, slots=True)
class Zeros:
    """A file of an example that only has a size."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule. id: "DY101"; name: "code-before-dependencies"; cost, why: sentences.

    bad triggers it, good doesn't, fixed is bad as it should be.
    """

    id: str
    name: str
    title: str
    severity: Severity
    cost: str
    why: str
    bad: str | Mapping[str, str | bytes | Zeros]
    good: str | Mapping[str, str | bytes | Zeros]
    fixed: str | Mapping[str, str | bytes | Zeros]
    check: Check


def rule(
    id: str,
    name: str,
    title: str,
    *,
    severity: Severity = "warning",
    cost: str,
    why: str,
    bad: str | Mapping[str, str | bytes | Zeros],
    good: str | Mapping[str, str | bytes | Zeros],
    fixed: str | Mapping[str, str | bytes | Zeros],
) -> Callable[[Check], Rule]:
    """Make a rule of the check that follows."""

    def made(check: Check) -> Rule:
        return Rule(
            id=id,
            name=name,
            title=title,
            severity=severity,
            cost=cost,
            why=" ".join(why.split()),
            bad=bad,
            good=good,
            fixed=fixed,
            check=check,
        )

    return made


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, by its id."""
    found = [
        item
        for theme in _THEMES
        for item in vars(importlib.import_module(f"dockyard.lint.rules.{theme}")).values()
        if isinstance(item, Rule)
    ]
    return tuple(sorted(found, key=lambda rule: rule.id))


def files_of(example: str | Mapping[str, str | bytes | Zeros]) -> dict[str, str | bytes | Zeros]:
    """An example's files by path."""
    return {"Dockerfile": example} if isinstance(example, str) else dict(example)
