"""Carries out the safe fixes: edits of whole lines, all of a finding's or none.

Rules: a finding whose edits touch a line that another one changed is left for the next round.
Files are replaced whole (written beside, then renamed), with the mode they had; what changed since
it was read is an error and stays as it is.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dockyard.lint.finding import Edit, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file as it was (None: not there) and as it will be."""

    path: str
    before: str | None
    after: str

    def diff(self) -> str:
        """The change as a unified diff."""
        old = (self.before or "").splitlines(keepends=True)
        new = self.after.splitlines(keepends=True)
        source = f"a/{self.path}" if self.before is not None else "/dev/null"
        lines = difflib.unified_diff(old, new, source, f"b/{self.path}")
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def plan_fixes(folder: Path, findings: Iterable[Finding]) -> tuple[Change, ...]:
    """The changes that the findings' safe fixes make; touches nothing."""
    chosen: dict[str, list[Edit]] = {}
    for finding in findings:
        if finding.edits and not _clashes(chosen, finding.edits):
            for edit in finding.edits:
                chosen.setdefault(edit.file, []).append(edit)
    changes = []
    for path, edits in sorted(chosen.items()):
        before = _read(folder / path, path)
        after = _apply(before or "", edits)
        if after != before:
            changes.append(Change(path=path, before=before, after=after))
    return tuple(changes)


def write_changes(folder: Path, changes: Iterable[Change]) -> None:
    """Write the changes; raises ProjectError for a file that can't be, or has changed meanwhile."""
    for change in changes:
        target = (folder / change.path).resolve()
        if _read(target, change.path) != change.before:
            raise ProjectError("has changed meanwhile", where=change.path, hint="Run it again.")
        temporary = ""
        try:
            mode = target.stat().st_mode & 0o7777 if change.before is not None else 0o644
            handle, temporary = tempfile.mkstemp(prefix=".dockyard-", dir=target.parent)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(change.after)
            os.chmod(temporary, mode)  # noqa: PTH101 - mkstemp gives a string
            os.replace(temporary, target)  # noqa: PTH105 - the same
        except OSError as error:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)  # noqa: PTH108 - the same
            raise ProjectError(
                f"can't be written: {error.strerror or error}", where=change.path
            ) from None


def _clashes(chosen: dict[str, list[Edit]], edits: Iterable[Edit]) -> bool:
    return any(
        edit.first <= max(other.last, other.first) and other.first <= max(edit.last, edit.first)
        for edit in edits
        for other in chosen.get(edit.file, ())
    )


def _apply(text: str, edits: Iterable[Edit]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    for edit in sorted(edits, key=lambda edit: (edit.first, edit.last), reverse=True):
        lines[edit.first - 1 : edit.last] = edit.lines
    return "".join(line + end for line in lines)


def _read(path: Path, where: str) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"can't be read: {error}", where=where) from None
