"""This terminal and a program in a container: what is typed goes there, what it writes comes here.

Rules: with a terminal of its own the program gets every key, Ctrl-C included, so ours is raw in
the meantime and is always set back. Without one, input is bytes until its end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from dockyard.errors import DockyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.api import Session

_PIECE = 1 << 14


def need_terminal(terminal: bool, interactive: bool) -> None:
    """Refuse a terminal with input that isn't one: what is piped would be typed."""
    if terminal and interactive and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal, and the input isn't one", hint="Give -i alone.")


def talk(session: Session, *, interactive: bool, terminal: bool) -> int:
    """Join this process's streams with a session's until it ends; return its exit code."""
    with _raw_terminal(terminal and interactive), _size_kept(session, terminal):
        if interactive:
            # A daemon: a read from a terminal ends only with the next key.
            threading.Thread(target=_pass_input, args=(session,), daemon=True).start()
        for chunk in session.output():
            stream = sys.stdout if chunk.stream == "stdout" else sys.stderr
            stream.buffer.write(chunk.data)
            stream.flush()
    try:
        return session.wait()
    finally:
        session.close()


def _pass_input(session: Session) -> None:
    with contextlib.suppress(DockyardError, OSError, ValueError):
        while piece := os.read(sys.stdin.fileno(), _PIECE):
            session.write(piece)
        session.close_input()


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _size_kept(session: Session, terminal: bool) -> Iterator[None]:
    """Tell the program how large the terminal is, now and whenever it changes."""

    def tell(*_: Any) -> None:
        size = shutil.get_terminal_size()
        with contextlib.suppress(DockyardError):
            session.resize(columns=size.columns, rows=size.lines)

    if not terminal or not sys.stdout.isatty():
        yield
        return
    before = signal.signal(signal.SIGWINCH, tell)
    try:
        tell()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
