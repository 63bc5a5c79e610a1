"""Findings for machines: SARIF 2.1.0 (OASIS), GitHub's annotations, JSON.

Rules: paths are relative to the project, percent-encoded in SARIF (RFC 3986). Fixes are in SARIF
too, as replacements of whole lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dockyard import __version__
from dockyard.lint.rule import all_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dockyard.lint.finding import Edit, Finding

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as one JSON object, with their number by severity."""
    counts = dict.fromkeys(_LEVELS, 0)
    for finding in findings:
        counts[finding.severity] += 1
    return {"findings": [finding.to_json() for finding in findings], "count": counts}


def to_sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as a SARIF log with one run."""
    known: dict[str, dict[str, Any]] = {
        rule.id: {
            "id": rule.id,
            "name": rule.name,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why},
            "help": {"text": f"{rule.why} It costs: {rule.cost}"},
            "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        }
        for rule in all_rules()
    }
    for finding in findings:
        known.setdefault(
            finding.rule,
            {"id": finding.rule, "shortDescription": {"text": finding.title or finding.rule}},
        )
    order = {id: index for index, id in enumerate(known)}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "dockyard",
                        "semanticVersion": __version__,
                        "rules": list(known.values()),
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, order) for finding in findings],
            }
        ],
    }


def _result(finding: Finding, order: dict[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": order[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": _sentence(finding)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(finding.file)},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }
            }
        ],
    }
    if finding.edits:
        files = sorted({edit.file for edit in finding.edits})
        result["fixes"] = [
            {
                "description": {"text": finding.fix},
                "artifactChanges": [
                    {
                        "artifactLocation": {"uri": quote(file)},
                        "replacements": [
                            _replacement(edit) for edit in finding.edits if edit.file == file
                        ],
                    }
                    for file in files
                ],
            }
        ]
    return result


def _replacement(edit: Edit) -> dict[str, Any]:
    text = "".join(line + "\n" for line in edit.lines)
    return {
        "deletedRegion": {
            "startLine": edit.first,
            "startColumn": 1,
            "endLine": edit.last + 1,
            "endColumn": 1,
        },
        "insertedContent": {"text": text},
    }


def to_github(findings: Iterable[Finding]) -> str:
    """The findings as GitHub's workflow commands, one a line."""
    lines = []
    for finding in findings:
        place = f"file={_property(finding.file)},line={finding.line},col={finding.column}"
        title = _property(f"{finding.rule} {finding.name}")
        command = _COMMANDS[finding.severity]
        lines.append(f"::{command} {place},title={title}::{_data(_sentence(finding))}\n")
    return "".join(lines)


def _sentence(finding: Finding) -> str:
    text = finding.message
    if finding.cost is not None:
        text += f". It costs: {finding.cost.text}"
    if finding.fix:
        text += f". {finding.fix}"
    return text


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
