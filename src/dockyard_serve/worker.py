"""One process that serves: its event loop, its models, its sockets, until it is told to stop.

Rules: alone, a worker answers before its models are loaded, so that a health check is told "not
ready" instead of nothing; beside others it accepts no connection that they could answer. SIGTERM
and SIGINT: not ready at once, then what is in flight is answered, then the end with 0; a second
signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from dockyard_serve.app import App, Control
from dockyard_serve.http.exchange import reseed_ids
from dockyard_serve.http.message import Extension
from dockyard_serve.metrics import Metrics
from dockyard_serve.model import Load
from dockyard_serve.places import find_place
from dockyard_serve.predictions.served import open_served_log
from dockyard_serve.process import settle_memory, threads_per_worker, usable_cpus
from dockyard_serve.repository import Repository
from dockyard_serve.settings import ServerSettings

log = logging.getLogger("dockyard.serve")

VERSION = "0.1.0"
_LATE = 3  # Exit status if not everything was answered within the grace time.


class Channel(Protocol):
    """A worker's line to its supervisor."""

    def control(self, repository: Repository) -> Control:
        """What loads and unloads in all workers, this one included."""
        ...

    async def ready(self) -> None:
        """Tell that the models are loaded; wait until what others changed meanwhile is done."""
        ...


async def serve(
    settings: ServerSettings,
    sock: socket.socket,
    metrics: Metrics,
    *,
    load: Load,
    extensions: Sequence[Extension] = (),
    channel: Channel | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Serve until a signal says to stop; the exit status. Raises LoadError at start only."""
    began = time.perf_counter()
    reseed_ids()
    stopping = _stop_signal()
    place = find_place(
        settings.model,
        name=settings.name,
        threads=settings.threads or threads_per_worker(settings.workers, usable_cpus()),
        options=settings.options,
        queue=settings.queue,
    )
    repository = Repository(place, load, metrics)
    control = None if channel is None else channel.control(repository)
    predictions = open_served_log()
    app = App(
        repository,
        metrics,
        settings,
        version=VERSION,
        control=control,
        extensions=extensions,
        predictions=predictions,
    )
    if channel is None:
        await app.http.listen(sock)
    loading = asyncio.ensure_future(repository.load_all())
    stopped = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        return 0
    await loading
    following = _start(None if settings.poll is None else repository.follow(settings.poll))
    settle_memory()
    if channel is not None:
        current = asyncio.ensure_future(channel.ready())
        await asyncio.wait({current, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not current.done():
            current.cancel()
            return 0
        await app.http.listen(sock)
    app.started = True
    metrics.value("dockyard_worker_starts_total").add()
    log.info(
        "serving",
        extra={"port": settings.port, "seconds": round(time.perf_counter() - began, 3)},
    )
    on_ready()
    await stopped
    log.info("stopping")
    if following is not None:
        following.cancel()
    finished = await app.http.drain(settings.grace)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(repository.close(), 1.0)
    if predictions is not None:
        await asyncio.to_thread(predictions.close)
    log.info("stopped" if finished else "stopped before everything was answered")
    return 0 if finished else _LATE


def _start(work: Coroutine[Any, Any, None] | None) -> asyncio.Task[None] | None:
    return None if work is None else asyncio.get_running_loop().create_task(work)


def _stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second has its usual effect."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        event.set()
        loop.remove_signal_handler(number)
        if number is signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return event


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop, or asyncio's own where it isn't installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_worker(work: Coroutine[Any, Any, int]) -> int:
    """Run a worker's coroutine on a loop of its own."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
