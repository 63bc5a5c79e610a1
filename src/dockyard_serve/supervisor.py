"""Several workers on one socket: forked before anything large is imported, replaced when they die.

Rules: the parent serves nothing, and imports no framework. All workers accept from one socket, so
that a connection no worker has taken yet is never lost with one. A worker that dies while it starts
is an error to report, not to repeat; one that dies later is replaced, slower each time. As PID 1
the parent reaps orphans too.

Workers and parent talk in lines of JSON over a socket pair: a worker asks for a load or unload, the
parent passes it to all and answers when all have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dockyard_serve.app import Control
    from dockyard_serve.repository import Repository

log = logging.getLogger("dockyard.serve")

_HEALTHY_AFTER = 10.0  # Seconds after which a death isn't taken as one of a series.
_SLOWEST_RESTART = 10.0


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int
    line: socket.socket
    began: float
    is_ready: bool = False
    deaths: int = 0
    buffer: bytes = b""


@dataclass(slots=True)
class _Order:
    asker: int
    key: int
    waiting: set[int]
    problem: str | None = None
    kind: str = ""


class Supervisor:
    """Keeps `count` workers alive; in each child `start(number, line)` gives its exit status."""

    def __init__(
        self, count: int, start: Callable[[int, socket.socket], int], *, grace: float
    ) -> None:
        self._count = count
        self._start = start
        self._grace = grace
        self._workers: dict[int, _Worker] = {}
        self._orders: dict[int, _Order] = {}
        self._last_orders: dict[str, str] = {}
        self._next_order = 0
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Fork, watch, stop: the exit status."""
        with asyncio.Runner() as runner:
            return runner.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._loop = loop
        for number in range(self._count):
            if not self._fork(number, deaths=0):
                return self._status
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._reap()
        await self._done.wait()
        return self._status

    def _fork(self, number: int, *, deaths: int) -> bool:
        """Start a worker; in the child this never returns."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._be_worker(number, ours, theirs)
        theirs.close()
        ours.setblocking(False)
        worker = _Worker(number, pid, ours, time.monotonic(), deaths=deaths)
        self._workers[number] = worker
        self._loop.add_reader(ours, self._hear, worker)
        return True

    def _be_worker(self, number: int, ours: socket.socket, theirs: socket.socket) -> None:
        status = 1
        try:
            # The parent's loop and its handlers are of no use here, and its epoll is shared.
            signal.set_wakeup_fd(-1)
            for name in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(name, signal.SIG_DFL)
            asyncio._set_running_loop(None)
            ours.close()
            for other in self._workers.values():
                other.line.close()
            status = self._start(number, theirs)
        finally:
            # Not sys.exit: the parent's frames above must not run on in the child.
            logging.shutdown()
            os._exit(status)

    # Death.

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            worker = next((one for one in self._workers.values() if one.pid == pid), None)
            if worker is not None:
                self._died(worker, os.waitstatus_to_exitcode(status))
        if self._stopping and not self._workers:
            self._done.set()

    def _died(self, worker: _Worker, code: int) -> None:
        self._loop.remove_reader(worker.line)
        worker.line.close()
        del self._workers[worker.number]
        for key in list(self._orders):
            self._heard_back(key, worker.number, "a worker died")
        if self._stopping:
            if code not in (0, -signal.SIGTERM):  # Told to stop before it could heed it
                self._status = code if code > 0 else 1
            return
        if not worker.is_ready and worker.deaths == 0 and code != -signal.SIGKILL:
            # What stops one from starting stops them all: say it once, and stop.
            self._status = code if code > 0 else 1
            self._stop()
            return
        lived = time.monotonic() - worker.began
        deaths = 1 if lived > _HEALTHY_AFTER else worker.deaths + 1
        pause = 0.0 if deaths == 1 else min(_SLOWEST_RESTART, 0.1 * 2**deaths)
        log.error("a worker died; another takes its place", extra={"pid": worker.pid, "code": code})
        self._loop.call_later(pause, self._replace, worker.number, deaths)

    def _replace(self, number: int, deaths: int) -> None:
        if not self._stopping:
            self._fork(number, deaths=deaths)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._loop.call_later(self._grace + 5.0, self._kill)
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
        if not self._workers:
            self._done.set()

    def _kill(self) -> None:
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    # Orders.

    def _hear(self, worker: _Worker) -> None:
        try:
            data = worker.line.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._loop.remove_reader(worker.line)
            return
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        for line in lines:
            self._obey(worker, json.loads(line))

    def _obey(self, worker: _Worker, message: dict[str, Any]) -> None:
        if "ready" in message:
            worker.is_ready = True
            # It may have looked at the models before they were loaded or unloaded elsewhere.
            for name, do in self._last_orders.items():
                _send(worker.line, {"order": 0, "do": do, "name": name})
            _send(worker.line, {"current": True})
        elif "done" in message:
            self._heard_back(
                message["done"], worker.number, message["problem"], message.get("kind", "")
            )
        else:
            self._next_order += 1
            key = self._next_order
            ready = [other for other in self._workers.values() if other.is_ready]
            order = _Order(worker.number, message["ask"], {other.number for other in ready})
            self._orders[key] = order
            self._last_orders[message["name"]] = message["do"]
            for other in ready:
                _send(other.line, {"order": key, "do": message["do"], "name": message["name"]})

    def _heard_back(self, key: int, number: int, problem: str | None, kind: str = "") -> None:
        order = self._orders.get(key)
        if order is None or number not in order.waiting:
            return
        order.waiting.discard(number)
        if problem is not None and order.problem is None:
            order.problem, order.kind = problem, kind
        if order.waiting:
            return
        del self._orders[key]
        asker = self._workers.get(order.asker)
        if asker is not None:
            answer = {"answer": order.key, "problem": order.problem, "kind": order.kind}
            _send(asker.line, answer)


def _send(line: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # A worker that died is seen by its exit.
        line.sendall(json.dumps(message).encode() + b"\n")


@dataclass(slots=True)
class SocketChannel:
    """A worker's end of the line: `dockyard_serve.worker.Channel`."""

    line: socket.socket
    _repository: Repository | None = None
    _asked: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    _next: int = 0
    _buffer: bytes = b""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _current: asyncio.Future[None] | None = None

    def control(self, repository: Repository) -> Control:
        """Loads and unloads by way of the parent, so that all workers do."""
        self._repository = repository
        self.line.setblocking(False)
        asyncio.get_running_loop().add_reader(self.line, self._hear)
        return self

    async def ready(self) -> None:
        """Tell the parent, and do what it says the other workers have done."""
        self._current = asyncio.get_running_loop().create_future()
        _send(self.line, {"ready": True})
        await self._current
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def load(self, name: str) -> None:
        """Load in all workers; raises NotFound or LoadError."""
        await self._ask("load", name)

    async def unload(self, name: str) -> None:
        """Unload in all workers; raises NotFound."""
        await self._ask("unload", name)

    async def _ask(self, what: str, name: str) -> None:
        self._next += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[self._next] = future
        _send(self.line, {"ask": self._next, "do": what, "name": name})
        await future

    def _hear(self) -> None:
        try:
            data = self.line.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""  # The parent died before it had read all that was told.
        loop = asyncio.get_running_loop()
        if not data:
            # Nobody supervises any more: end as if told to.
            loop.remove_reader(self.line)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "current" in message:
                if self._current is not None and not self._current.done():
                    self._current.set_result(None)
            elif "answer" in message:
                self._answered(message)
            else:
                task = loop.create_task(self._obey(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _answered(self, message: dict[str, Any]) -> None:
        from dockyard_serve.errors import LoadError, NotFound

        future = self._asked.pop(message["answer"])
        if future.done():
            return
        problem = message["problem"]
        if problem is None:
            future.set_result(None)
        elif message["kind"] == "NotFound":
            future.set_exception(NotFound(problem))
        else:
            future.set_exception(LoadError(problem))

    async def _obey(self, message: dict[str, Any]) -> None:
        from dockyard_serve.errors import LoadError, NotFound

        assert self._repository is not None
        do = self._repository.load if message["do"] == "load" else self._repository.unload
        problem, kind = None, ""
        try:
            await do(message["name"])
        except NotFound as error:
            problem, kind = error.message, "NotFound"
        except LoadError as error:
            problem = error.what
        _send(self.line, {"done": message["order"], "problem": problem, "kind": kind})
