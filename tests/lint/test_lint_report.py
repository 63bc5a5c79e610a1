"""Findings for machines: SARIF, GitHub, JSON; and hadolint's among ours."""

from __future__ import annotations

import json

import jsonschema
import pytest
from lint_projects import findings_of

from dockyard.lint.finding import Finding
from dockyard.lint.hadolint import find_hadolint, run_hadolint, without_doubles
from dockyard.lint.report import to_github, to_json, to_sarif

# The parts of the SARIF 2.1.0 schema (OASIS) that a consumer of a log of results relies on.
REGION = {
    "type": "object",
    "properties": {
        "startLine": {"type": "integer", "minimum": 1},
        "startColumn": {"type": "integer", "minimum": 1},
        "endLine": {"type": "integer", "minimum": 1},
        "endColumn": {"type": "integer", "minimum": 1},
    },
    "additionalProperties": False,
}
MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
ARTIFACT = {
    "type": "object",
    "required": ["uri"],
    "properties": {"uri": {"type": "string", "format": "uri-reference"}},
    "additionalProperties": False,
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
RESULT = {
    "type": "object",
    "required": ["message", "ruleId"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "physicalLocation": {
                        "type": "object",
                        "required": ["artifactLocation"],
                        "properties": {"artifactLocation": ARTIFACT, "region": REGION},
                        "additionalProperties": False,
                    }
                },
                "additionalProperties": False,
            },
        },
        "fixes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["artifactChanges"],
                "properties": {
                    "description": MESSAGE,
                    "artifactChanges": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["artifactLocation", "replacements"],
                            "properties": {
                                "artifactLocation": ARTIFACT,
                                "replacements": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["deletedRegion"],
                                        "properties": {
                                            "deletedRegion": REGION,
                                            "insertedContent": MESSAGE,
                                        },
                                        "additionalProperties": False,
                                    },
                                },
                            },
                        },
                    },
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "properties": {
                                                "shortDescription": MESSAGE,
                                                "defaultConfiguration": {
                                                    "properties": {"level": LEVEL}
                                                },
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": RESULT},
                },
            },
        },
    },
}
BAD = "FROM python:3.7\nCOPY . /app\nRUN pip install flask\nCMD python app.py\n"


@pytest.fixture
def found(tmp_path):
    return findings_of(tmp_path, {"a b/Dockerfile": BAD, "a b/app.py": "x = 1\n"})


def test_sarif_has_the_shape_of_the_standard_and_names_every_rule(found):
    log = json.loads(json.dumps(to_sarif(found)))
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    assert len(run["results"]) == len(found) > 4
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "a%20b/Dockerfile"
    assert any("fixes" in result for result in run["results"])


def test_github_annotations_escape_what_would_end_them():
    finding = Finding(
        rule="DY1",
        name="a",
        title="t",
        severity="info",
        file="a,b:c",
        line=2,
        column=3,
        message="50%\nmore",
    )
    assert to_github([finding]) == (
        "::notice file=a%2Cb%3Ac,line=2,col=3,title=DY1 a::50%25%0Amore\n"
    )


def test_json_counts_and_keeps_costs_as_numbers(found):
    report = json.loads(json.dumps(to_json(found)))
    assert sum(report["count"].values()) == len(report["findings"])
    shell = next(item for item in report["findings"] if item["rule"] == "DY403")
    assert (shell["cost"]["seconds"], shell["fixable"], shell["line"]) == (9, True, 4)


def test_hadolints_findings_are_added_and_doubles_are_told_once(tmp_path):
    program = find_hadolint()
    if program is None:
        pytest.skip("hadolint isn't installed")
    text = "FROM python:3.12-slim\nRUN cd /tmp && pip install flask==3.0.0\nCMD python app.py\n"
    ours = findings_of(tmp_path, text)
    theirs, problem = run_hadolint(program, tmp_path, ["Dockerfile"])
    assert problem == ""
    assert {"DL3003", "DL3042", "DL3025"} <= {item.rule for item in theirs}
    left = {item.rule for item in without_doubles(theirs, ours)}
    assert "DL3003" in left
    assert not {"DL3042", "DL3025"} & left


def test_a_hadolint_that_fails_says_so_and_stops_nothing(tmp_path):
    program = tmp_path / "hadolint"
    program.write_text("#!/bin/sh\necho broken\n")
    program.chmod(0o755)
    assert run_hadolint(str(program), tmp_path, ["Dockerfile"])[0] == ()
    assert "failed on Dockerfile" in run_hadolint(str(program), tmp_path, ["Dockerfile"])[1]
