"""What the command line draws: progress, tables, sizes and times.

Rules: results go to stdout, everything else to stderr. Colour and moving bars only on a terminal
that wants them (NO_COLOR, TERM=dumb); elsewhere a task is one line when it ends. Results never
depend on the terminal's width when they are piped.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager
from functools import wraps
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress, TaskID
    from rich.progress import Task as RichTask

    from dockyard.progress import Reporter, Task

_QUICK = 1.0  # Seconds; a task that ends sooner isn't worth a line in a log file.
_NARROW = 12  # Characters; a column isn't cut below that.


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person looks at the stream and it can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def use_colour(stream: IO[str]) -> bool:
    """Whether to colour what goes to the stream (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def format_size(size: float) -> str:
    """Bytes for people: "594.2 MB"; powers of 1000, as registries and download pages count."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration for people: "0.12 s", "5.4 s", "2 min 5 s"."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: str = "", shrink: str = ""
) -> None:
    """Print rows in aligned columns to stdout.

    Columns whose header is in `right` (words) are flush right. Those in `shrink` are cut, in that
    order, until the lines fit a terminal; elsewhere nothing is cut.
    """
    from rich.cells import cell_len, set_cell_size

    cells = [[header.upper() for header in headers], *[[str(cell) for cell in row] for row in rows]]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(headers))]
    if is_terminal(sys.stdout):
        room = shutil.get_terminal_size().columns - 2 * (len(headers) - 1)
        for column in [list(headers).index(name) for name in shrink.split()]:
            spare = max(0, widths[column] - _NARROW)
            widths[column] -= min(spare, max(0, sum(widths) - room))
    flush_right = [header in right.split() for header in headers]
    bold, plain = ("\033[1m", "\033[0m") if use_colour(sys.stdout) else ("", "")
    for number, row in enumerate(cells):
        line = ""
        for cell, width, to_right in zip(row, widths, flush_right, strict=True):
            shown = cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
            space = " " * (width - cell_len(shown))
            line += (space + shown if to_right else shown + space) + "  "
        line = line.rstrip()
        print(f"{bold}{line}{plain}" if number == 0 else line)


def with_reporter(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command `-q/--quiet` and the argument `reporter`."""

    @click.option("-q", "--quiet", is_flag=True, help="Show no progress, only warnings and errors.")
    @wraps(command)
    def wrapped(*args: Any, quiet: bool, **kwargs: Any) -> Any:
        with open_reporter(quiet=quiet) as reporter:
            return command(*args, reporter=reporter, **kwargs)

    return wrapped


@contextmanager
def open_reporter(*, quiet: bool = False) -> Iterator[Reporter]:
    """Yield the reporter that suits stderr: bars on a terminal, lines elsewhere."""
    if quiet or not is_terminal(sys.stderr):
        yield LineReporter(quiet=quiet)
        return
    reporter = BarReporter()
    try:
        yield reporter
    finally:
        reporter.close()


class LineReporter:
    """One line per finished task, for log files and pipes; with `quiet` only warnings."""

    def __init__(self, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._quiet = quiet
        self._stream = stream

    @contextmanager
    def task(self, text: str, *, total: int | None = None) -> Iterator[Task]:
        """Yield a task that is told of when it ends well."""
        task = _CountingTask(text)
        started = time.monotonic()
        yield task
        seconds = time.monotonic() - started
        if seconds < _QUICK:
            return
        if task.done:
            self.note(f"{task.text}: {format_size(task.done)} in {format_seconds(seconds)}")
        else:
            self.note(f"{task.text}: {format_seconds(seconds)}")

    def note(self, text: str) -> None:
        """Print the line."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Print the line as a warning."""
        self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        print(text, file=self._stream or sys.stderr, flush=True)


class _CountingTask:
    def __init__(self, text: str) -> None:
        self.text = text
        self.done = 0
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self.done += amount

    def describe(self, text: str) -> None:
        self.text = text


class BarReporter:
    """A bar per running task at the bottom of the terminal; notes scroll above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._lock = threading.Lock()

    @contextmanager
    def task(self, text: str, *, total: int | None = None) -> Iterator[Task]:
        """Yield a task with a bar, which goes away when the task ends."""
        with self._lock:
            progress = self._progress = self._progress or self._start()
            number = progress.add_task(text, total=total)
        try:
            yield _BarTask(progress, number)
        finally:
            with self._lock:
                progress.remove_task(number)
                # Nothing may redraw the screen while a container writes to it.
                if not progress.tasks and progress is self._progress:
                    progress.stop()
                    self._progress = None

    def note(self, text: str) -> None:
        """Print the line above the bars."""
        self._console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print the line above the bars, as a warning."""
        from rich.text import Text

        line = Text.assemble(("warning:", "bold yellow"), " ", text)
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Take the bars off the screen; a later task brings them back."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    def _start(self) -> Progress:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
        from rich.progress import TransferSpeedColumn as Speed
        from rich.text import Text

        # A task of unknown length has no bytes to show.
        class Done(DownloadColumn):
            def render(self, task: RichTask) -> Text:
                return Text() if task.total is None else super().render(task)

        class Rate(Speed):
            def render(self, task: RichTask) -> Text:
                return Text() if task.total is None else super().render(task)

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            Done(),
            Rate(),
            console=self._console,
            transient=True,
            refresh_per_second=8,
        )
        progress.start()
        return progress


class _BarTask:
    def __init__(self, progress: Progress, number: TaskID) -> None:
        self._progress = progress
        self._number = number

    def advance(self, amount: int) -> None:
        self._progress.advance(self._number, amount)

    def describe(self, text: str) -> None:
        self._progress.update(self._number, description=text)
