"""What goes on in the local engine's containers: commands, usage, processes, files."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import select
import struct
import subprocess
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dockyard.engine import refusals
from dockyard.engine.local.containers import LocalContainers
from dockyard.engine.local.enter import GONE
from dockyard.engine.local.lookup import find_user
from dockyard.engine.local.monitor import enter_command
from dockyard.engine.local.record import Life
from dockyard.engine.state import LogChunk, PathInfo, ProcessLine, UnsupportedError, Usage
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dockyard.engine.local.record import Record
    from dockyard.engine.state import Execution

_CHUNK = 1 << 16
_TICKS = os.sysconf("SC_CLK_TCK")


class LocalInside(LocalContainers):
    """What goes on in an engine's containers."""

    def execute(self, container: str, execution: Execution) -> _Executed:
        """Start another command in a running container."""
        record = self.need_running(container)
        request: dict[str, Any] = {
            "argv": list(execution.command),
            "environment": dict(execution.environment),
            "workdir": execution.workdir,
            "terminal": execution.terminal,
        }
        if execution.user is not None:
            request["user"] = self._user(record, execution.user)
        return _Executed(enter_command(record.folder(self.store), request), execution)

    def converse(self, container: str) -> _Conversation:
        """Talk to its own program, made with `interactive`; before its start to miss nothing."""
        record = self.need_container(container)
        return _Conversation(
            record.folder(self.store) / "stdin" if record.interactive else None,
            self.attach(container),
            lambda: self.wait(record.id),
        )

    def usage(self, container: str) -> Usage:
        """What a running container has used until now; of its network nothing is known."""
        record = self.need_running(container)
        cpu = memory = read = written = count = 0
        for pid in self._pids(record):
            count += 1
            with suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # utime, stime, and those of children that it has waited for (proc(5), 14 to 17).
                cpu += sum(int(ticks) for ticks in fields[11:15])
                memory += _own_memory(Path(f"/proc/{pid}/status").read_text())
                block = dict(
                    line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines()
                )
                read += int(block["read_bytes"])
                written += int(block["write_bytes"])
        return Usage(
            at=time.monotonic(),
            cpu=cpu / _TICKS,
            memory=memory,
            memory_limit=record.memory,
            block_read=read,
            block_written=written,
            processes=count,
        )

    def processes(self, container: str) -> tuple[ProcessLine, ...]:
        """The processes of a running container."""
        lines = []
        for pid in self._pids(self.need_running(container)):
            with suppress(OSError, ValueError, IndexError):
                process = Path(f"/proc/{pid}")
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                lines.append(
                    ProcessLine(
                        pid=pid,
                        user=_user_name(process.stat().st_uid),
                        time=_clock((int(fields[11]) + int(fields[12])) // _TICKS),
                        command=b" ".join(words).decode("utf-8", "replace"),
                    )
                )
        return tuple(lines)

    def path(self, container: str, path: str) -> PathInfo | None:
        """What is at an absolute path in the container, or None; it needn't run."""
        record = self.need_container(container)
        code, output, words = self._run(record, {"look": _absolute(path)})
        if code == GONE:
            return None
        if code:
            raise EngineError(f"{path} can't be looked at: {words}", where=container)
        return PathInfo(**json.loads(output))

    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """A file or folder as a tar, streamed, whose members start with the path's last part."""
        record = self.need_container(container)
        process = subprocess.Popen(
            enter_command(record.folder(self.store), {"pack": _absolute(path)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while data := process.stdout.read(1 << 20):
                yield data
            words = process.stderr.read().decode("utf-8", "replace").strip()
            self._check_files(process.wait(), words, container, path)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def copy_in(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar, streamed, in a folder that exists in the container."""
        record = self.need_container(container)
        running = Life.load(record.folder(self.store)).status == "running"
        if record.read_only and not running and not _is_mounted(record, folder):
            raise refusals.explain(refusals.READ_ONLY, where=container)
        process = subprocess.Popen(
            enter_command(record.folder(self.store), {"unpack": _absolute(folder)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with suppress(BrokenPipeError):  # It says itself why it stopped reading.
                for chunk in chunks:
                    process.stdin.write(chunk)
            with suppress(BrokenPipeError):
                process.stdin.close()
            words = process.stderr.read().decode("utf-8", "replace").strip()
            self._check_files(process.wait(), words, container, folder)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    def _check_files(self, code: int, words: str, container: str, path: str) -> None:
        if code == GONE:
            raise refusals.explain(
                f"Could not find the file {path} in container {container}", where=container
            )
        if code:
            line = words.splitlines()[-1] if words else f"exit code {code}"
            if "Read-only file system" in line:
                raise refusals.explain(refusals.READ_ONLY, where=container)
            raise EngineError(f"{path} can't be copied: {line}", where=container)

    def _run(self, record: Record, request: dict[str, Any]) -> tuple[int, bytes, str]:
        command = enter_command(record.folder(self.store), request)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").strip()

    def _pids(self, record: Record) -> list[int]:
        """The container's processes as this machine numbers them, its first one first."""
        first = Life.load(record.folder(self.store)).pid
        found = []
        with suppress(OSError):
            space = Path(f"/proc/{first}/ns/pid").readlink()
            for entry in Path("/proc").iterdir():
                with suppress(OSError):
                    if entry.name.isdigit() and (entry / "ns" / "pid").readlink() == space:
                        found.append(int(entry.name))
        return sorted(found, key=lambda pid: (pid != first, pid))

    def _user(self, record: Record, text: str) -> list[Any]:
        user = find_user([self.store.layer(layer) for layer in record.layers], text)
        if not record.root_owner and user.uid != record.uid:
            raise UnsupportedError(
                f"without root the local engine's containers have one user, here {record.uid}",
                where=record.name,
                hint="Leave --user out, or use Docker or Podman.",
            )
        return [user.uid, user.gid, list(user.groups)]


class _Executed:
    """A command in a container, in a process of ours that has entered it."""

    def __init__(self, command: list[str], execution: Execution) -> None:
        self._terminal: int | None = None
        nothing = subprocess.DEVNULL
        if execution.terminal:
            self._terminal, slave = os.openpty()
            self._process = subprocess.Popen(
                command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
            os.close(slave)
            return
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if execution.interactive else nothing,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def output(self) -> Iterator[LogChunk]:
        """What it writes, until it ends."""
        if self._terminal is not None:
            # EIO: nobody has the other end any more.
            with suppress(OSError):
                while data := os.read(self._terminal, _CHUNK):
                    yield LogChunk("stdout", data)
            return
        yield from _both(self._process.stdout, self._process.stderr)

    def write(self, data: bytes) -> None:
        """Give it input; a program that has ended takes none, which is no error."""
        with suppress(OSError, ValueError):
            if self._terminal is not None:
                os.write(self._terminal, data)
            elif self._process.stdin is not None:
                self._process.stdin.write(data)

    def close_input(self) -> None:
        """Say that no more input comes."""
        if self._terminal is not None:
            self.write(b"\x04")  # What a terminal's end of input is.
        elif self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def resize(self, *, columns: int, rows: int) -> None:
        """Say how large its terminal is."""
        if self._terminal is not None:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            with suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def wait(self) -> int:
        """Its exit code, once its output has ended."""
        return self._process.wait()

    def close(self) -> None:
        """Let go of it; it isn't stopped."""
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            if file is not None:
                with suppress(OSError):
                    file.close()
        if self._terminal is not None:
            with suppress(OSError):
                os.close(self._terminal)
        # Whoever waits for it reaps it; else it would stay as a zombie of a long-lived process.
        threading.Thread(target=self._process.wait, daemon=True).start()


class _Conversation:
    """The container's own program: its output is the log's, its input a pipe in its folder."""

    def __init__(
        self, source: Path | None, output: Iterator[LogChunk], wait: Callable[[], int]
    ) -> None:
        # Read and write, so that opening doesn't wait for the container to open it too.
        self._source = None if source is None else os.open(source, os.O_RDWR)
        self._output = output
        self._wait = wait

    def output(self) -> Iterator[LogChunk]:
        """What it writes, until it ends."""
        return self._output

    def write(self, data: bytes) -> None:
        """Give it input; a program that has ended takes none, which is no error."""
        if self._source is not None:
            with suppress(OSError):
                os.write(self._source, data)

    def close_input(self) -> None:
        """Say that no more input comes."""
        if self._source is not None:
            os.close(self._source)
            self._source = None

    def resize(self, *, columns: int, rows: int) -> None:
        """The size of its terminal is the monitor's, which can't be told."""

    def wait(self) -> int:
        """Its exit code, once its output has ended."""
        return self._wait()

    def close(self) -> None:
        """Let go of it; it isn't stopped."""
        self.close_input()


def _both(out: IO[bytes] | None, err: IO[bytes] | None) -> Iterator[LogChunk]:
    assert out is not None
    assert err is not None
    names = {out.fileno(): "stdout", err.fileno(): "stderr"}
    poll = select.poll()
    for handle in names:
        poll.register(handle, select.POLLIN)
    while names:
        for handle, _ in poll.poll():
            data = os.read(handle, _CHUNK)
            if data:
                yield LogChunk("stderr" if names[handle] == "stderr" else "stdout", data)
            else:
                poll.unregister(handle)
                del names[handle]


def _absolute(path: str) -> str:
    return "/" + path.lstrip("/")


def _is_mounted(record: Record, folder: str) -> bool:
    """Whether the folder is in a volume, which can be written though the root can't."""
    return any(f"{folder}/".startswith(f"{bound.target}/") for bound in record.binds)


def _own_memory(status: str) -> int:
    """Bytes of a process that aren't the file cache's (proc(5), status)."""
    sizes = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    kinds = ("RssAnon", "RssShmem")
    return sum(int(sizes[kind].split()[0]) * 1024 for kind in kinds if kind in sizes)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
