"""hadolint's findings, merged with ours: it knows shells and Debian, we know the project.

Rules: it runs when it is found on the PATH or beside this Python, on Dockerfiles only. What both
find is told once, by us. A hadolint that fails gives no findings and a reason.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.lint.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATIENCE = 60  # Seconds for one Dockerfile.
_SEVERITIES: dict[str, Severity] = {"error": "error", "warning": "warning"}
# hadolint's rules that say what one of ours says, with the cost and the fix.
_SAME = {
    "DL3042": "DY207",
    "DL3013": "DY205",
    "DL3002": "DY401",
    "DL3025": "DY403",
    "DL3029": "DY411",
    "DL1000": "DY001",
    "DL3064": "DY701",
    "DL3006": "DY208",
}


def find_hadolint() -> str | None:
    """The program's path; None where it isn't installed."""
    beside = Path(sys.executable).parent / "hadolint"
    return shutil.which("hadolint") or (str(beside) if beside.is_file() else None)


def run_hadolint(
    program: str, folder: Path, paths: Iterable[str]
) -> tuple[tuple[Finding, ...], str]:
    """Its findings in Dockerfiles of a folder, and why there are none where it failed."""
    found: list[Finding] = []
    for path in paths:
        command = [program, "--no-fail", "--no-color", "-f", "json", path]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, timeout=_PATIENCE, check=False
            )
            listed = json.loads(done.stdout or b"[]")
        except subprocess.TimeoutExpired:
            return tuple(found), f"hadolint took more than {_PATIENCE} s for {path}"
        except (OSError, ValueError) as error:
            return tuple(found), f"hadolint failed on {path}: {error}"
        found += [_finding(path, item) for item in listed if isinstance(item, dict)]
    return tuple(found), ""


def without_doubles(theirs: Iterable[Finding], ours: Iterable[Finding]) -> tuple[Finding, ...]:
    """Their findings, less those that one of ours tells for the same file."""
    told = {(item.file, item.rule) for item in ours}
    return tuple(item for item in theirs if (item.file, _SAME.get(item.rule, "")) not in told)


def _finding(path: str, item: dict[str, Any]) -> Finding:
    code = str(item.get("code", "DL0000"))
    message = str(item.get("message", ""))
    return Finding(
        rule=code,
        name=code.lower(),
        title=message,
        severity=_SEVERITIES.get(str(item.get("level")), "info"),
        file=path,
        line=max(1, int(item.get("line", 1))),
        column=max(1, int(item.get("column", 1))),
        message=message,
        source="hadolint",
    )
