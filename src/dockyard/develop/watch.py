"""The server as a child that is started anew whenever a file that it is made of changes.

Rules: files are looked at twice a second, by time and size. A change ends the server with SIGTERM,
so that what is in flight is answered, and starts it again; one that can't start waits for the next
change. Whoever ends us ends the child too.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PERIOD = 0.5  # Seconds between two looks.
_GRACE = 10.0
_MOST_FILES = 5000
_SKIPPED = frozenset(
    {"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"}
)
_WATCHED = (".py", ".toml", ".json", ".yaml", ".yml", ".txt")

Look = dict[str, tuple[int, int]]


def look_at(folder: Path, models: Sequence[Path]) -> Look:
    """Time and size of the code below a folder, and of models, by path."""
    found: Look = {}
    for model in models:
        for path in [model, *(sorted(model.rglob("*")) if model.is_dir() else ())]:
            _add(found, str(path))
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED and name[:1] != "."]
        for name in files:
            if name.endswith(_WATCHED) and len(found) < _MOST_FILES:
                _add(found, os.path.join(place, name))  # noqa: PTH118 - thousands of these
    return found


def _add(found: Look, path: str) -> None:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return
    found[path] = (stat.st_mtime_ns, stat.st_size)


def changed(before: Look, after: Look) -> str | None:
    """A path that isn't as it was; None if all are."""
    return next((path for path in {**before, **after} if before.get(path) != after.get(path)), None)


@dataclass(slots=True, kw_only=True)
class Child:
    """The server's process: command, where it runs, and what it is told of the environment."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    host: str
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)
    ready: bool = False

    def start(self) -> None:
        """Start the process; what it writes goes where ours goes."""
        self.ready = False
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=dict(self.environment), stdin=subprocess.DEVNULL
        )

    def stop(self) -> int:
        """End the process, at last by force; its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def became_ready(self) -> bool:
        """Whether it is ready now and wasn't when last asked."""
        if self.ready:
            return False
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104
        connection = http.client.HTTPConnection(host, self.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            self.ready = connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return self.ready


def keep_running(
    child: Child,
    look: Callable[[], Look] | None,
    *,
    on_ready: Callable[[], None],
    on_change: Callable[[str], None],
    on_end: Callable[[int], None],
) -> int:
    """Run the child until it ends (without `look`) or we are ended; its exit status.

    look: sees what the child is made of. on_change is told the path, on_end the exit status of a
    child that ended by itself and waits for a change.
    """
    seen = look() if look is not None else {}
    child.start()
    told = False
    try:
        while True:
            time.sleep(PERIOD)
            assert child.process is not None
            status = child.process.poll()
            if status is not None and look is None:
                return status
            if status is not None and not told:
                on_end(status)
                told = True
            if status is None and child.became_ready():
                on_ready()
            if look is None:
                continue
            now = look()
            path = changed(seen, now)
            if path is not None:
                on_change(path)
                child.stop()
                seen, told = look(), False
                child.start()
    finally:
        child.stop()
