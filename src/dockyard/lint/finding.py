"""Findings: where, which rule, what it costs, the fix.

Rules: a rule gives `Hit`s; the run makes `Finding`s of them, which know the rule. Paths are
relative to the project, POSIX. An edit replaces lines `first` to `last` of a file (from 1, both
included) by `lines`; last = first - 1 inserts before `first`; in a file that isn't there yet, and
past its end, it appends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dockyard.dockerfile.syntax import Place

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a finding costs. text: a phrase for people; size: bytes; seconds; risk: what may happen.

    Numbers are there only where they were computed from the project or measured.
    """

    text: str
    size: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change of whole lines."""

    file: str
    first: int
    last: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a rule found. fix: one imperative sentence; edits: the same, where it is safe."""

    file: str
    line: int
    column: int = 1
    message: str
    cost: Cost | None = None
    fix: str = ""
    edits: tuple[Edit, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A hit with its rule. source: "dockyard" or "hadolint"; title: the rule's."""

    rule: str
    name: str
    title: str
    severity: Severity
    file: str
    line: int
    column: int
    message: str
    cost: Cost | None = None
    fix: str = ""
    edits: tuple[Edit, ...] = ()
    source: str = "dockyard"

    def to_json(self) -> dict[str, object]:
        """The finding as `--json` prints it."""
        cost = self.cost and {
            "text": self.cost.text,
            **({"bytes": self.cost.size} if self.cost.size is not None else {}),
            **({"seconds": self.cost.seconds} if self.cost.seconds is not None else {}),
        }
        return {
            "rule": self.rule,
            "name": self.name,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "cost": cost,
            "fix": self.fix,
            "fixable": bool(self.edits),
            "source": self.source,
        }


def hit(
    file: str,
    place: Place,
    message: str,
    *,
    cost: Cost | str | None = None,
    fix: str = "",
    edits: tuple[Edit, ...] = (),
    severity: Severity | None = None,
) -> Hit:
    """Make a hit at a place; a cost given as text is that text."""
    return Hit(
        file=file,
        line=place.line,
        column=place.column,
        message=message,
        cost=Cost(text=cost) if isinstance(cost, str) else cost,
        fix=fix,
        edits=edits,
        severity=severity,
    )


def megabytes(size: float) -> str:
    """A size as findings show it: "262 MB", "1.2 GB"."""
    if size >= 999_500_000:
        return f"{size / 1e9:.1f} GB"
    if size >= 999_500:
        return f"{size / 1e6:.0f} MB"
    return f"{max(1, round(size / 1e3))} kB"
