"""DY0: files that can't be read as what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.lint.finding import hit
from dockyard.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import Subject


@rule(
    "DY001",
    "syntax",
    "The file can't be read",
    severity="error",
    cost="The build, or the start, fails.",
    why="""A Dockerfile or Compose file with a syntax error is refused by every tool. Other rules
    see what could be read.""",
    bad="FROM python:3.12-slim\nRUNN pip install flask==3.0.0\n",
    good={"compose.yaml": "services:\n  app:\n    image: app\n"},
    fixed="FROM python:3.12-slim\nRUN pip install --no-cache-dir flask==3.0.0\n",
)
def syntax(subject: Subject) -> Iterator[Hit]:
    """Every fault of the parsers."""
    for view in subject.dockerfiles:
        for fault in view.document.faults:
            yield hit(view.path, fault.place, fault.what, fix=fault.hint or "")
    for file in subject.compose:
        if file.fault is not None:
            what, place = file.fault
            yield hit(file.path, place, f"isn't valid YAML: {what}")
