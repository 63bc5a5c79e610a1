"""Programs in the base's Python that answer requests over their standard input and output.

Rules: a program is run from its text (`-c`), so that no path of the host is in its memory; it sees
nothing of the host's environment; requests and answers take turns.
"""

from __future__ import annotations

import subprocess
from functools import lru_cache
from importlib import resources
from typing import IO, TYPE_CHECKING

from dockyard.errors import BuildError

if TYPE_CHECKING:
    from types import TracebackType

    from dockyard.build.bytecode import BasePython


@lru_cache
def program_text(name: str) -> str:
    """Return the text of a program that is shipped beside this module."""
    return resources.files("dockyard.build").joinpath(name).read_text("utf-8")


class Worker:
    """One running program; `answered` counts what was received from it."""

    def __init__(self, base: BasePython, program: str) -> None:
        try:
            self._process = subprocess.Popen(
                [*base.command, "-S", "-s", "-B", "-W", "ignore", "-c", program_text(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=base.environment(),
                cwd="/",
                bufsize=0,
            )
        except OSError as error:
            raise _broken(f"can't be started ({error.strerror})") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._stdout: IO[bytes] = self._process.stdout
        self.answered = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, *parts: bytes) -> None:
        """Write the whole request. Raises BuildError when the program is gone."""
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[self._stdin.write(view) :]
        except OSError as error:
            raise _broken("ended early") from error

    def receive(self, count: int) -> bytes:
        """Read `count` bytes of the answer. Raises BuildError when the program is gone."""
        data = bytearray()
        while len(data) < count:
            piece = self._stdout.read(count - len(data))
            if not piece:
                raise _broken("ended early")
            data += piece
        self.answered += 1
        return bytes(data)

    def close(self) -> None:
        """End the program by ending its input."""
        self._stdin.close()
        self._stdout.close()
        self._process.wait()


def framed(data: bytes) -> tuple[bytes, bytes]:
    """Return the data preceded by its length, as the programs read it."""
    return len(data).to_bytes(4, "big"), data


def _broken(how: str) -> BuildError:
    return BuildError(
        f"the base's Python {how}",
        hint='Set bytecode = "none" to build without bytecode.',
    )
