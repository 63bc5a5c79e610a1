"""How long work tells its progress: a protocol, and the reporter that says nothing.

Rules: a library function takes a `Reporter` and defaults to `SILENT`; it never prints.
Only the command line draws.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Task(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: int) -> None:
        """Say that `amount` more units (bytes, unless the task was started otherwise) are done."""

    def describe(self, text: str) -> None:
        """Replace the task's description."""


class Reporter(Protocol):
    """Where progress goes. Methods may be called from any thread."""

    def task(self, text: str, *, total: int | None = None) -> AbstractContextManager[Task]:
        """Open a task of `total` bytes (None: unknown); a context manager that yields a Task."""

    def note(self, text: str) -> None:
        """Say one line of information, kept on the screen."""

    def warn(self, text: str) -> None:
        """Say one line of warning, kept on the screen."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        """Nothing to draw."""

    def describe(self, text: str) -> None:
        """Nothing to draw."""


class SilentReporter:
    """A reporter that says nothing."""

    @contextmanager
    def task(self, text: str, *, total: int | None = None) -> Iterator[Task]:
        """Yield a task that draws nothing."""
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Drop the line."""

    def warn(self, text: str) -> None:
        """Drop the line."""


SILENT: Reporter = SilentReporter()
