"""From settings to a running server: one process, or a parent with several workers.

Rules: the parent imports neither numpy nor a framework, so that a fork copies nothing and no thread
of theirs is lost in it.
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import TYPE_CHECKING

from dockyard_serve.logs import start_logging

if TYPE_CHECKING:
    from dockyard_serve.metrics import SharedMemory
    from dockyard_serve.settings import ServerSettings

log = logging.getLogger("dockyard.serve")


def run(settings: ServerSettings, *, level: str = "info") -> int:
    """Serve until a signal says to stop: the exit status, 1 with a message if it can't start."""
    try:
        sock = _bind(settings.host, settings.port)
    except OSError as error:
        print(  # noqa: T201
            f"{settings.host}:{settings.port} can't be listened on: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    if settings.workers == 1:
        start_logging(log_dir=settings.log_dir, level=level)
        return _work(settings, sock, None, 0, None)
    from dockyard_serve.metrics import SharedMemory
    from dockyard_serve.supervisor import Supervisor

    start_logging(log_dir=settings.log_dir, level=level)
    memory = SharedMemory(settings.workers)

    def start(number: int, line: socket.socket) -> int:
        start_logging(worker=number, log_dir=settings.log_dir, level=level)
        return _work(settings, sock, memory, number, line)

    return Supervisor(settings.workers, start, grace=settings.grace).run()


def _work(
    settings: ServerSettings,
    sock: socket.socket,
    memory: SharedMemory | None,
    number: int,
    line: socket.socket | None,
) -> int:
    from dockyard_serve.process import limit_threads, threads_per_worker, usable_cpus

    limit_threads(settings.threads or threads_per_worker(settings.workers, usable_cpus()))
    from dockyard_serve.docs import routes
    from dockyard_serve.errors import LoadError
    from dockyard_serve.loading import load_source
    from dockyard_serve.metrics import Metrics, SharedMemory
    from dockyard_serve.supervisor import SocketChannel
    from dockyard_serve.worker import run_worker, serve

    metrics = Metrics(memory or SharedMemory(), number)
    channel = None if line is None else SocketChannel(line)
    try:
        return run_worker(
            serve(settings, sock, metrics, load=load_source, extensions=[routes], channel=channel)
        )
    except LoadError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    sock.set_inheritable(True)
    return sock
