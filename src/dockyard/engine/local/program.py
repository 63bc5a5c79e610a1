"""A program in a container: its user, limits and environment, and the init above it.

Rules: as an engine's messages are, a program that can't be executed is told on stderr and by its
exit code: 127 where there is none, 126 where it can't be executed. The init passes every signal
on, reaps what is orphaned, and ends as the program does: 128 and the signal's number.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from dockyard.engine.local import kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.engine.local.record import Record

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAP_KILL = 5
_TERMINAL = 0x540E  # TIOCSCTTY


def run_as_first(record: Record, stdio: tuple[int, int, int]) -> None:
    """Be the container's first process: the init and its program, or the program itself."""
    if not record.init:
        execute(record, record.argv, record.environment, stdio, workdir=record.workdir)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = os.fork()
    if program == 0:
        try:
            execute(record, record.argv, record.environment, stdio, workdir=record.workdir)
        finally:
            os._exit(255)
    kernel.keep_only(_CAP_KILL)  # The program may have become another user.
    # None of the monitor's files may stay open here: who waits for their end would wait for ours.
    os.closerange(3, 1024)
    os._exit(_look_after(program))


def _look_after(program: int) -> int:
    waited = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(program, number)
            continue
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == program:
                    return exit_code(ended[1])


def exit_code(status: int) -> int:
    """What wait(2) says, as engines tell it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def execute(
    record: Record,
    argv: Sequence[str],
    environment: Mapping[str, str],
    stdio: tuple[int, int, int],
    *,
    workdir: str,
    user: tuple[int, int, tuple[int, ...]] | None = None,
    terminal: bool | None = None,
) -> None:
    """Become the program; returns never."""
    for number, handle in enumerate(stdio):
        os.dup2(handle, number)
    os.setsid()
    if record.terminal if terminal is None else terminal:
        _take_terminal()
    try:
        _restrict(record, user)
        _enter_folder(workdir)
    except OSError as error:
        _leave(f"the container can't be entered: {error.strerror}: {error.filename}", 126)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _exec(argv, environment)


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, _TERMINAL, 0)


def _restrict(record: Record, user: tuple[int, int, tuple[int, ...]] | None) -> None:
    for name, soft, hard in record.ulimits:
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        resource.setrlimit(number, (soft, hard))
    kernel.keep_capabilities(frozenset(record.capabilities))
    uid, gid, groups = user or (record.uid, record.gid, record.groups)
    if record.root_owner:
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    if record.no_new_privileges:
        kernel.forbid_new_privileges()


def _enter_folder(workdir: str) -> None:
    with suppress(OSError):
        os.makedirs(workdir, exist_ok=True)  # noqa: PTH103 - nothing is imported any more here
    os.chdir(workdir)


def _exec(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    name = argv[0]
    folders = environment.get("PATH", _PATH).split(":")
    candidates = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in folders]
    failure = errno.ENOENT
    for path in candidates:
        try:
            os.execve(path, list(argv), dict(environment))  # noqa: S606 - that is what we are for
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error.errno or failure
            elif _is_program(path):
                # A script's or program's interpreter is what isn't there.
                failure = errno.ENOEXEC
    _leave(f"exec {name} failed: {os.strerror(failure)}", 127 if failure == errno.ENOENT else 126)


def _is_program(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def _leave(message: str, code: int) -> None:
    with suppress(OSError):
        sys.stderr.flush()
        os.write(2, f"[dockyard] {message}\n".encode())
    os._exit(code)
