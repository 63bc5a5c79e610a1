"""What goes on in a container of the engine in memory."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from typing import TYPE_CHECKING

from dockyard.engine import refusals
from dockyard.engine.memory.process import Process, run_program
from dockyard.engine.memory.store import Store
from dockyard.engine.state import LogChunk, PathInfo, ProcessLine, Usage
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dockyard.engine.state import Execution

_LATE = "the container has run already"


class MemorySession:
    """A program that is talked to; its end is a code."""

    def __init__(
        self,
        changed: threading.Condition,
        source: list[bytes | None],
        output: Iterator[LogChunk],
        wait: Callable[[], int],
    ) -> None:
        self._changed = changed
        self._source = source
        self._output = output
        self._wait = wait
        self.size: tuple[int, int] | None = None

    def output(self) -> Iterator[LogChunk]:
        """What it writes, until it ends."""
        return self._output

    def write(self, data: bytes) -> None:
        """Give it input."""
        with self._changed:
            self._source.append(data)
            self._changed.notify_all()

    def close_input(self) -> None:
        """Say that no more input comes."""
        with self._changed:
            self._source.append(None)
            self._changed.notify_all()

    def resize(self, *, columns: int, rows: int) -> None:
        """Say how large its terminal is."""
        self.size = (columns, rows)

    def wait(self) -> int:
        """Its exit code, once its output has ended."""
        return self._wait()

    def close(self) -> None:
        """Let go of it; it isn't stopped."""


class MemoryInside(Store):
    """What goes on in an engine's containers."""

    def execute(self, container: str, execution: Execution) -> MemorySession:
        """Start another command in a running container."""
        written: list[LogChunk] = []
        codes: list[int] = []
        source: list[bytes | None] = [] if execution.interactive else [None]
        with self._changed:
            found = self.need_running(container)
            if execution.command[0] not in self._programs:
                message = f'exec: "{execution.command[0]}": executable file not found in $PATH'
                raise refusals.explain(message, where=container)
            found.guests += 1
            process = Process(
                self,
                found,
                self._changed,
                command=execution.command,
                environment=execution.environment,
                emit=written.append,
                source=source,
            )

        def work() -> None:
            code = run_program(self._programs, process, foreign=False)
            with self._changed:
                codes.append(code)
                found.guests -= 1
                self._changed.notify_all()

        def output() -> Iterator[LogChunk]:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: written or codes)
                    chunks, over = written[:], bool(codes)
                    written.clear()
                yield from chunks
                if over and not chunks:
                    return

        def wait() -> int:
            with self._changed:
                self._changed.wait_for(lambda: codes)
                return codes[0]

        threading.Thread(target=work, daemon=True, name=f"{found.name}-exec").start()
        return MemorySession(self._changed, source, output(), wait)

    def converse(self, container: str) -> MemorySession:
        """Talk to its own program, made with `interactive`; before its start to miss nothing."""
        with self._changed:
            found = self.need_container(container)
            if not found.spec.interactive:
                raise EngineError("the container takes no input", where=container)
            output = self.follow(found, len(found.output))

        def wait() -> int:
            with self._changed:
                self._changed.wait_for(lambda: found.status == "exited")
                return found.exit_code or 0

        return MemorySession(self._changed, found.input, output, wait)

    def usage(self, container: str) -> Usage:
        """What a running container has used until now."""
        with self._changed:
            found = self.need_running(container)
            return Usage(
                at=time.monotonic(),
                cpu=0.0,
                memory=sum(map(len, found.files.values())),
                memory_limit=found.spec.memory,
                network_received=0,
                network_sent=0,
                block_read=0,
                block_written=0,
                processes=1 + found.guests,
            )

    def processes(self, container: str) -> tuple[ProcessLine, ...]:
        """The processes of a running container."""
        with self._changed:
            found = self.need_running(container)
            command = " ".join(Process(self, found, self._changed).command)
            user = found.spec.user or str(found.image.config.get("User") or "root")
            return (ProcessLine(pid=1, user=user, time="00:00:00", command=command),)

    def path(self, container: str, path: str) -> PathInfo | None:
        """What is at an absolute path in the container, or None; it needn't run."""
        with self._changed:
            files = self.need_container(container).files
            path = path.rstrip("/")
            name = path.rpartition("/")[2]
            if path in files:
                return PathInfo(name=name, kind="file", size=len(files[path]))
            # Folders are where files are, and where nothing could be missing.
            if not path or any(other.startswith(f"{path}/") for other in files):
                return PathInfo(name=name or "/", kind="folder")
            return None

    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """A file or folder as a tar, streamed, whose members start with the path's last part."""
        with self._changed:
            info = self.path(container, path)
            if info is None:
                raise refusals.explain(
                    f"Could not find the file {path} in container {container}", where=container
                )
            files = dict(self.need_container(container).files)
        path = path.rstrip("/")
        parent = path.rpartition("/")[0]
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            if info.kind == "folder":
                folder = tarfile.TarInfo(info.name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(folder)
            for name, data in files.items():
                if name == path or name.startswith(f"{path}/"):
                    member = tarfile.TarInfo(name[len(parent) + 1 :])
                    member.size, member.mode = len(data), 0o644
                    archive.addfile(member, io.BytesIO(data))
        yield out.getvalue()

    def copy_in(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar, streamed, in a folder that exists in the container."""
        data = b"".join(chunks)
        with self._changed, tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = self.need_container(container)
            for member in archive:
                body = archive.extractfile(member)
                if member.isreg() and body is not None:
                    try:
                        found.files[f"{folder.rstrip('/')}/{member.name}"] = body.read()
                    except OSError as error:
                        raise refusals.explain(refusals.READ_ONLY, where=container) from error
