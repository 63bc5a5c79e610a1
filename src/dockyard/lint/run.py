"""Runs the rules over a project and keeps what the project's owner wants to hear.

Rules:
- A selection is rule ids, names, or beginnings of ids ("DY2"); `ignore` wins over `select`.
- `# dockyard: ignore=DY101,DY102` on a line, or on comment lines right above it, silences those
  rules there; without "=" it silences all. In a Dockerfile a comment counts for the whole
  instruction that follows it or that it stands in.
- Findings come in the order of file, line and rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.errors import ConfigError
from dockyard.lint.finding import SEVERITIES, Finding, Severity
from dockyard.lint.rule import all_rules
from dockyard.lint.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockyard.lint.finding import Hit
    from dockyard.lint.rule import Rule

_COMMENT = re.compile(r"#\s*dockyard:\s*ignore(?:\s*=\s*([\w, -]+))?", re.IGNORECASE)
_ID = re.compile(r"(?:DY|DL|SC)\d{0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rules count, and how much. Empty select: all."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    severity: Mapping[str, Severity] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError for a word that is no rule's."""
        names = {rule.name for rule in all_rules()}
        ids = tuple(rule.id for rule in all_rules())
        for word in (*self.select, *self.ignore, *self.severity):
            foreign = _ID.fullmatch(word) and not word.startswith("DY")
            if not (foreign or word in names or any(id.startswith(word) for id in ids)):
                raise ConfigError(
                    f"{word!r} is no rule", hint="`dockyard lint --rules` lists every rule."
                )

    def wants(self, id: str, name: str) -> bool:
        """Whether the rule counts."""
        if _matches(self.ignore, id, name):
            return False
        return not self.select or _matches(self.select, id, name)

    def severity_of(self, id: str, name: str, default: Severity) -> Severity:
        """What the rule's findings weigh: the longest word that matches wins."""
        found = [word for word in self.severity if _matches((word,), id, name)]
        return self.severity[max(found, key=len)] if found else default


def _matches(words: Sequence[str], id: str, name: str) -> bool:
    return any(word == name or id.startswith(word) for word in words)


def run_rules(
    subject: Subject,
    selection: Selection | None = None,
    *,
    more: Iterable[Finding] = (),
) -> tuple[Finding, ...]:
    """Return the findings of every rule that is wanted, and of `more` (hadolint's)."""
    selection = selection or Selection()
    selection.check()
    found = [
        _finding(rule, item, selection)
        for rule in all_rules()
        if selection.wants(rule.id, rule.name)
        for item in rule.check(subject)
    ]
    found += [item for item in more if selection.wants(item.rule, item.name)]
    silenced = _Silenced(subject)
    kept = {
        (item.file, item.line, item.column, item.rule, item.message): item
        for item in found
        if not silenced(item)
    }
    return tuple(
        sorted(kept.values(), key=lambda item: (item.file, item.line, item.column, item.rule))
    )


def _finding(rule: Rule, item: Hit, selection: Selection) -> Finding:
    return Finding(
        rule=rule.id,
        name=rule.name,
        title=rule.title,
        severity=selection.severity_of(rule.id, rule.name, item.severity or rule.severity),
        file=item.file,
        line=item.line,
        column=item.column,
        message=item.message,
        cost=item.cost,
        fix=item.fix,
        edits=item.edits,
    )


class _Silenced:
    """Whether a comment silences a finding."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.lines: dict[str, dict[int, str | None]] = {}
        self.texts: dict[str, list[str]] = {}
        self.views = {view.path: view for view in subject.dockerfiles}

    def __call__(self, item: Finding) -> bool:
        comments = self.comments(item.file)
        if not comments:
            return False
        lines = self.texts[item.file]
        first, last = item.line, item.line
        view = self.views.get(item.file)
        for made in view.document.instructions if view else ():
            if made.line <= item.line <= made.end_line:
                first, last = made.line, made.end_line
        while first > 1 and lines[first - 2].lstrip().startswith("#"):
            first -= 1
        for line in range(first, last + 1):
            if line not in comments:
                continue
            words = comments[line]
            if words is None:
                return True
            listed = [word.strip() for word in words.split(",")]
            if _matches([word for word in listed if word], item.rule, item.name):
                return True
        return False

    def comments(self, file: str) -> dict[int, str | None]:
        if file not in self.lines:
            text = self.subject.read(file) or ""
            self.texts[file] = text.split("\n") if "dockyard:" in text.lower() else []
            self.lines[file] = {
                number: match[1]
                for number, line in enumerate(self.texts[file], 1)
                if (match := _COMMENT.search(line))
            }
        return self.lines[file]


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The gravest severity among findings; None for none."""
    present = {item.severity for item in findings}
    return next((severity for severity in SEVERITIES if severity in present), None)
