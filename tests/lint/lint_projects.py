"""Projects on disk, as the rules' examples have them."""

from __future__ import annotations

import datetime
from pathlib import Path

from dockyard.lint.rule import Zeros, files_of
from dockyard.lint.run import Selection, run_rules
from dockyard.lint.subject import Subject

TODAY = datetime.date(2026, 11, 20)


def write_example(folder: Path, example) -> Path:
    """Write an example's files; a Zeros is a sparse file."""
    for name, content in files_of(example).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Zeros):
            with path.open("wb") as file:
                file.truncate(content.size)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
    return folder


def findings_of(folder: Path, example, *select: str, **selection):
    """The findings in an example."""
    write_example(folder, example)
    return run_rules(Subject(folder, today=TODAY), Selection(select=select, **selection))
