"""uv as a child process: how it is started, stopped, and what it answered.

Rules:
- The binary is the one in uv's own wheel; Dockyard's interpreter serves where uv wants one, so
  that the host needs no Python of the target's version and none is downloaded.
- uv runs in a process group of its own: when Dockyard is interrupted, uv and the build backends
  it started end too, and git can't ask for a password on the terminal.
- Whatever uv says is kept here; only `complaints` turns it into a message.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.wheels.settings import IndexSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one run of uv gave; status: its exit status."""

    status: int
    output: str
    complaint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver:
    """Runs uv with one machine's settings.

    python: the interpreter that uv may run; None for Dockyard's own.
    """

    settings: IndexSettings
    cache: Cache
    offline: bool = False
    python: Path | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        stdin: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Answer:
        """Run `uv ARGUMENTS` in `folder`; raises ResolveError only when uv can't be started."""
        from uv import find_uv_bin

        try:
            command = [find_uv_bin(), *arguments, "--no-progress", "--color", "never"]
        except FileNotFoundError as error:
            raise ResolveError(
                "uv, which resolves the requirements, isn't installed",
                hint="Install Dockyard again: pip install --force-reinstall dockyard uv.",
            ) from error
        if self.offline:
            command.append("--offline")
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**self._environment(), **(variables or {})},
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise ResolveError(
                f"uv can't be started: {error.strerror}",
                where=str(folder if not folder.is_dir() else command[0]),
                hint="Check that the folder exists and that uv may be run.",
            ) from error
        try:
            output, complaint = process.communicate(stdin)
        except BaseException:
            _end(process)
            raise
        return Answer(status=process.returncode, output=output, complaint=complaint)

    def interpreter(self) -> str:
        """The interpreter for `--python`."""
        return str(self.python or sys.executable)

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            # These would turn uv to another project, interpreter or output.
            if name not in ("UV_PYTHON", "UV_WORKING_DIR", "UV_PROJECT", "VIRTUAL_ENV")
        }
        env = self.settings.environment(inherited)
        env.setdefault("UV_CACHE_DIR", str(self.cache.root / "uv"))
        env.setdefault("UV_HTTP_RETRIES", "2")
        env["UV_PYTHON_DOWNLOADS"] = "never"
        # COLUMNS would break its messages, paths in them too, over several lines.
        env["UV_NO_WRAP"] = "1"
        env["GIT_TERMINAL_PROMPT"] = "0"
        return env


def _end(process: subprocess.Popen[str]) -> None:
    """End a run of uv and all that it started."""
    for number, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
