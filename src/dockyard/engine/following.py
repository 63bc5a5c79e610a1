"""Logs of several containers at once, in constant memory; an engine that goes away is waited for.

Rules: one thread for each container, and a short queue between them and the reader: who reads
slowly slows the engine down, not this machine. Whole lines are passed on, so that those of two
containers don't mix; a line without end is passed on in pieces.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from dockyard.engine.state import LogChunk, LostEngineError
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dockyard.engine.api import ContainerState, Engine

PATIENCE = 120.0
"""Seconds in which an engine that went away may come back."""

_LONGEST = 1 << 16  # Bytes of a line that is kept until it ends.
_QUEUE = 256
_ASK_AGAIN = 0.5  # Seconds.
_GOING_DOWN = 1.5  # Seconds from an engine's killing its containers to its own end.


def follow(
    engine: Engine,
    container: str,
    *,
    tail: int | None = None,
    since: float | None = None,
    patience: float = PATIENCE,
    lost: Callable[[], None] = lambda: None,
) -> Iterator[LogChunk]:
    """What a container writes until it ends for good.

    When the engine goes away in between, `lost` is called once; if it comes back within `patience`
    and the container runs again, what it writes then follows. Raises LostEngineError if not.
    """
    while True:
        seen = time.time()
        try:
            for chunk in engine.logs(container, follow=True, tail=tail, since=since):
                seen = time.time()
                yield chunk
            state = _last_state(engine, container)
        except LostEngineError:
            lost()
            state = _await_engine(engine, container, patience)
        if state is None or state.status not in ("running", "restarting"):
            return
        tail, since = None, seen
        time.sleep(_ASK_AGAIN)


def lines_of(chunks: Iterable[LogChunk]) -> Iterator[LogChunk]:
    """The same bytes cut at the ends of lines; a last line without one gets it."""
    held: dict[str, bytes] = {}
    for chunk in chunks:
        *lines, rest = (held.get(chunk.stream, b"") + chunk.data).split(b"\n")
        for line in lines:
            yield LogChunk(chunk.stream, line + b"\n")
        if len(rest) > _LONGEST:
            yield LogChunk(chunk.stream, rest)
            rest = b""
        held[chunk.stream] = rest
    if held.get("stdout"):
        yield LogChunk("stdout", held["stdout"] + b"\n")
    if held.get("stderr"):
        yield LogChunk("stderr", held["stderr"] + b"\n")


def interleave(
    sources: Sequence[tuple[str, Iterable[LogChunk]]],
) -> Iterator[tuple[str, LogChunk]]:
    """Lines of several named sources as they come; an error is raised when all have ended."""
    pending: queue.Queue[tuple[str, LogChunk] | None] = queue.Queue(_QUEUE)
    failures: list[EngineError] = []
    over = threading.Event()

    def pass_on(item: tuple[str, LogChunk] | None) -> bool:
        while not over.is_set():
            with suppress(queue.Full):
                pending.put(item, timeout=0.2)
                return True
        return False

    def pump(name: str, chunks: Iterable[LogChunk]) -> None:
        try:
            for line in lines_of(chunks):
                if not pass_on((name, line)):
                    return
        except EngineError as error:
            failures.append(error)
        pass_on(None)

    for name, chunks in sources:
        # Daemons: one that waits for a quiet container must not keep Python from ending.
        threading.Thread(target=pump, args=(name, chunks), daemon=True, name=f"logs-{name}").start()
    left = len(sources)
    try:
        while left:
            item = pending.get()
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        over.set()
    if failures:
        raise failures[0]


def _last_state(engine: Engine, container: str) -> ContainerState | None:
    """The state after the stream's end, which is an engine's way of shutting down too.

    It has then killed the container first, and is gone a moment later.
    """
    deadline = time.monotonic() + _GOING_DOWN
    while True:
        state = engine.container(container)
        killed = state is not None and state.exit_code is not None and state.exit_code >= 128
        if not killed or time.monotonic() > deadline:
            return state
        time.sleep(_ASK_AGAIN / 5)


def _await_engine(engine: Engine, container: str, patience: float) -> ContainerState | None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return engine.container(container)
        except LostEngineError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN)
