"""The process that stays with a container; its argument is the container's folder.

It starts the container, keeps what it writes, asks its health check, starts it again where that
was wished, and leaves the exit code. Rules: one line on stdout says "ok", or why it couldn't be
started; nothing of it is in the container, and the container dies with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dockyard.engine.local import cgroups, room
from dockyard.engine.local.logs import LogWriter
from dockyard.engine.local.program import exit_code, run_as_first
from dockyard.engine.local.record import Life, Record, to_json_line
from dockyard.engine.local.store import LocalStore, remove_tree, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_READ = 1 << 16
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 60.0  # Seconds before a restart, as Docker's.
_CHECK = {"Interval": 30e9, "Timeout": 30e9, "StartPeriod": 0, "Retries": 3}
_OUTPUT = 4096  # Bytes of a health check's words that are kept.


def main() -> None:
    """Daemonise, then stay until the container is over."""
    folder = Path(sys.argv[1])
    record = Record.load(folder)
    assert record is not None
    answer = os.dup(1)
    if os.fork():
        os._exit(0)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(answer, b"ok\n")  # Another start was quicker.
        return
    os.ftruncate(lock, 0)
    _Monitor(record, LocalStore(folder.parent.parent), lock, answer).run()


class _Monitor:
    """One container from its start to its end."""

    def __init__(self, record: Record, store: LocalStore, lock: int, answer: int) -> None:
        self._record = record
        self._store = store
        self._folder = record.folder(store)
        self._lock = lock
        self._answer = answer
        self._life = Life(status="running")
        self._log = LogWriter(
            self._folder / "log", size=record.log_size, files=max(1, record.log_files)
        )

    def run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._store.using_layers():
                    child, streams = self._start()
            except OSError as error:
                self._couldnt_start(error)
                return
            began = time.monotonic()
            code = self._stay(child, streams)
            if not self._wants_restart(code):
                break
            pause = _FIRST_PAUSE if time.monotonic() - began > 10 else pause
            self._save(status="restarting", exit_code=code, pid=0, restarts=self._life.restarts + 1)
            if self._is_stopped_within(pause):
                break
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._end(code)

    def _start(self) -> tuple[int, _Streams]:
        streams = _Streams(self._record, self._folder)
        ready, tell = os.pipe()
        group = cgroups.make(self._record)

        def body() -> None:
            try:
                room.furnish(self._record, self._store)
            except OSError as error:
                path = str(error.filename or "").removeprefix(str(self._folder))
                os.write(tell, f"{error.errno}\n{path}".encode())
                os._exit(1)
            os.close(tell)
            run_as_first(self._record, streams.inside)

        try:
            # Under its limits before it starts anything, for only what comes after is.
            child = room.fork_into(
                self._record.uid, self._record.gid, body, before=partial(cgroups.enter, group)
            )
        finally:
            os.close(tell)
            streams.close_inside()
        with os.fdopen(ready, "rb") as file:
            failure = file.read().decode()
        if failure:
            os.waitpid(child, 0)
            number, _, path = failure.partition("\n")
            raise OSError(int(number), os.strerror(int(number)), path)
        self._save(status="running", pid=child, started=_now(), exit_code=None, finished="")
        self._tell("ok")
        return child, streams

    def _stay(self, child: int, streams: _Streams) -> int:
        """Keep its output and ask its health until it ends; its exit code."""
        check = _Check(self._record, self._folder, child)
        ended = os.pidfd_open(child)
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            for number, handle in streams.outside.items():
                selector.register(handle, selectors.EVENT_READ, number)
            if streams.typed is not None:
                selector.register(streams.typed, selectors.EVENT_READ, 0)
            alive = True
            while alive or streams.outside:
                for key, _ in selector.select(check.next_in() if alive else 0.5):
                    if key.fd == ended:
                        alive = False
                        selector.unregister(ended)
                    elif key.data == 0:
                        streams.pass_input()
                    elif not self._keep(key.fd, key.data):
                        selector.unregister(key.fd)
                        streams.drop(key.data)
                if alive:
                    check.turn()
        os.close(ended)
        check.stop()
        streams.close()
        _, status = os.waitpid(child, 0)
        return exit_code(status)

    def _keep(self, handle: int, stream: int) -> bool:
        try:
            data = os.read(handle, _READ)
        except OSError:  # EIO: the last holder of a terminal is gone.
            data = b""
        if data:
            with suppress(OSError):  # A full disk must not end the container.
                self._log.write(stream, data)
        return bool(data)

    def _wants_restart(self, code: int) -> bool:
        policy, life = self._record.restart, Life.written(self._folder)
        if life.stopping or policy == "no":
            return False
        if policy == "on-failure":
            limit = self._record.restart_retries
            return code != 0 and (not limit or self._life.restarts < limit)
        return True

    def _is_stopped_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if Life.written(self._folder).stopping:
                return True
            time.sleep(min(left, 0.1))
        return Life.written(self._folder).stopping

    def _end(self, code: int) -> None:
        killed = cgroups.was_out_of_memory(self._record)
        cgroups.remove(self._record)
        self._log.close()
        os.pwrite(self._lock, str(code).encode(), 0)
        self._save(status="exited", exit_code=code, pid=0, finished=_now(), oom_killed=killed)
        if self._record.remove:
            _remove(self._folder, self._store)

    def _couldnt_start(self, error: OSError) -> None:
        cgroups.remove(self._record)
        code = 127 if error.errno == errno.ENOENT else 126
        self._log.close()
        os.pwrite(self._lock, str(code).encode(), 0)
        message = f"{error.filename or ''}: {error.strerror}".lstrip(": ")
        again = self._life.started != ""
        status = "exited" if again else "created"
        self._save(status=status, exit_code=code if again else None, error=message, pid=0)
        self._tell(f"{error.errno} {message}")

    def _save(self, **changes: Any) -> None:
        self._life = replace(self._life, **changes)
        with suppress(Exception):  # A full disk, or a folder that was removed by force.
            self._life.save(self._folder)

    def _tell(self, line: str) -> None:
        if self._answer >= 0:
            with suppress(OSError):
                os.write(self._answer, f"{line}\n".encode())
            os.close(self._answer)
            self._answer = -1


class _Streams:
    """The container's stdin, stdout and stderr, and our ends of them."""

    def __init__(self, record: Record, folder: Path) -> None:
        self.typed: int | None = None
        self._master: int | None = None
        if record.terminal:
            self._master, slave = os.openpty()
            self.inside = (slave, slave, slave)
            self.outside = {1: self._master}
            if record.interactive:
                self.typed = os.open(folder / "stdin", os.O_RDONLY | os.O_NONBLOCK)
            return
        out, out_inside = os.pipe()
        err, err_inside = os.pipe()
        if record.interactive:
            # Without O_NONBLOCK it would wait for whoever talks to it; who does is there already.
            source = os.open(folder / "stdin", os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(source, True)
        else:
            source = os.open(os.devnull, os.O_RDONLY)
        self.inside = (source, out_inside, err_inside)
        self.outside = {1: out, 2: err}

    def close_inside(self) -> None:
        for handle in set(self.inside):
            os.close(handle)

    def pass_input(self) -> None:
        assert self.typed is not None
        assert self._master is not None
        data = os.read(self.typed, _READ)
        if data:
            os.write(self._master, data)
        else:
            time.sleep(0.05)  # Nobody talks to it now; somebody may again.

    def drop(self, number: int) -> None:
        os.close(self.outside.pop(number))

    def close(self) -> None:
        for number in list(self.outside):
            self.drop(number)
        if self.typed is not None:
            os.close(self.typed)
            self.typed = None


class _Check:
    """The health check's rounds; health.json says how the last one went."""

    def __init__(self, record: Record, folder: Path, pid: int) -> None:
        check = record.health or {}
        self._command = check_command(check)
        self._folder = folder
        times = {name: (check.get(name) or default) for name, default in _CHECK.items()}
        self._interval = times["Interval"] / 1e9
        self._timeout = times["Timeout"] / 1e9
        self._patience = time.monotonic() + times["StartPeriod"] / 1e9
        self._retries = int(times["Retries"])
        self._failures = 0
        self._due = time.monotonic() + self._interval
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        if self._command:
            self._write("starting", "")

    def next_in(self) -> float | None:
        """Seconds until the next thing to do."""
        if not self._command:
            return None
        if self._process is not None:
            return 0.05
        return max(0.0, self._due - time.monotonic())

    def turn(self) -> None:
        """Begin a round that is due, or end one that is over or late."""
        now = time.monotonic()
        if self._process is None:
            if self._command and now >= self._due:
                self._words = tempfile.TemporaryFile()  # noqa: SIM115 - until the round ends
                self._process = subprocess.Popen(
                    enter_command(self._folder, {"argv": list(self._command)}),
                    stdin=subprocess.DEVNULL,
                    stdout=self._words,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._due = now + self._timeout
            return
        code = self._process.poll()
        if code is None and now < self._due:
            return
        self._finish(code)
        self._due = time.monotonic() + self._interval

    def stop(self) -> None:
        """The container is over."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _finish(self, code: int | None) -> None:
        assert self._process is not None
        assert self._words is not None
        if code is None:
            self._process.kill()
            self._process.wait()
        self._words.seek(0)
        words = self._words.read(_OUTPUT).decode("utf-8", "replace")
        self._words.close()
        self._process = None
        if code == 0:
            self._failures = 0
            self._write("healthy", words)
            return
        if code is None:
            words = f"no answer in {self._timeout:g} s: {words}"
        if time.monotonic() >= self._patience:
            self._failures += 1
        self._write("unhealthy" if self._failures >= self._retries else None, words)

    def _write(self, status: str | None, words: str) -> None:
        if status is not None:
            self._status = status
        with suppress(Exception):
            write_json(self._folder / "health.json", {"status": self._status, "output": words})


def check_command(check: Mapping[str, Any]) -> tuple[str, ...]:
    """A health check's command; () where there is none (image-spec's Healthcheck)."""
    match tuple(check.get("Test") or ()):
        case ("CMD", *command):
            return tuple(command)
        case ("CMD-SHELL", script):
            return ("/bin/sh", "-c", script)
    return ()


def enter_command(folder: Path, request: Mapping[str, Any]) -> list[str]:
    """The command that does something in a container: see `enter`."""
    return [*own_program("enter"), str(folder), to_json_line(request)]


def own_program(module: str) -> list[str]:
    """The start of a command that runs one of the local engine's own programs."""
    return [sys.executable, "-P", "-c", f"from dockyard.engine.local.{module} import main; main()"]


def _remove(folder: Path, store: LocalStore) -> None:
    grave = store.root / "tmp" / f"{os.getpid()}-{folder.name[:12]}"
    with suppress(OSError):
        folder.rename(grave)
        remove_tree(grave)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
