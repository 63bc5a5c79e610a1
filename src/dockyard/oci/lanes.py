"""Threads that hash and write beside the one that inflates, each in order and bounded.

Rules:
- A lane applies one function to the items that it is given, in order, in its own thread. hashlib
  and file writes let other threads run, so two lanes use two cores.
- What waits in a lane is bounded in bytes: `put` blocks until there is room, so memory doesn't
  grow with the layer. Small items travel in batches, since a hand-over costs more than they do.
- The first error in a lane stops it; the next `put`, or `close`, raises it for the caller.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")

_BATCH = 1 << 20
_WAITING = 6


class Lane(Generic[T]):
    """One thread that applies `work` to items in order. A context manager: leaving it waits."""

    def __init__(self, name: str, work: Callable[[T], object], *, largest: int = _BATCH) -> None:
        """largest: the weight that a single item may have; the larger, the fewer may wait."""
        self._work = work
        waiting = max(1, _WAITING * _BATCH // max(_BATCH, largest))
        self._queue: queue.Queue[list[T] | None] = queue.Queue(waiting)
        self._batch: list[T] = []
        self._weight = 0
        self.error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"dockyard-{name}", daemon=True)
        self._thread.start()

    def put(self, item: T, weight: int) -> None:
        """Hand over an item of `weight` bytes; raises the lane's error if it has failed."""
        self._batch.append(item)
        self._weight += weight
        if self._weight >= _BATCH:
            self._flush()

    def close(self) -> None:
        """Wait until all is done; raises the lane's error if it has failed."""
        self._flush()
        self._stop()
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abandoned = True
            self._stop()

    def _flush(self) -> None:
        if self.error is not None:
            raise self.error
        if self._batch:
            self._queue.put(self._batch)
            self._batch = []
            self._weight = 0

    def _stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            # After an error the queue is still emptied, so that nobody waits for room in it.
            if self.error is not None or self._abandoned:
                continue
            try:
                for item in batch:
                    self._work(item)
            except BaseException as error:
                self.error = error
