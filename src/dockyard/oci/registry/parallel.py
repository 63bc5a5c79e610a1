"""Several transfers at once, of which the first failure ends all.

Rules:
- Results are in the order of the items. After a failure what hasn't begun isn't begun, what runs is
  told to stop, and the error is raised when nothing runs any more.
- Ctrl-C doesn't wait for a registry that says nothing: threads that don't stop at once are left to
  end with the process.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_GRACE = 1.0  # Seconds that an interrupted user waits for threads to stop by themselves.


def run_parallel(
    work: Callable[[T], R], items: Sequence[T], *, parallel: int, stop: threading.Event
) -> list[R]:
    """Apply work to the items, `parallel` at a time; stop is set while a failure unwinds."""
    if len(items) < 2:
        return [work(item) for item in items]
    todo = iter(enumerate(items))
    taking = threading.Lock()
    ended: queue.SimpleQueue[tuple[int, R | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        while not stop.is_set():
            with taking:
                number, item = next(todo, (None, None))
            if number is None:
                return
            try:
                ended.put((number, work(item), None))  # type: ignore[arg-type]
            except BaseException as error:
                ended.put((number, None, error))
                return

    # Daemons: the interpreter doesn't wait for them.
    threads = [
        threading.Thread(target=run, name=f"transfer-{number}", daemon=True)
        for number in range(min(parallel, len(items)))
    ]
    for thread in threads:
        thread.start()
    results: dict[int, R] = {}
    try:
        for _ in items:
            number, result, error = ended.get()
            if error is not None:
                raise error
            results[number] = result  # type: ignore[assignment]
    except BaseException as error:
        stop.set()
        patient = isinstance(error, Exception)
        deadline = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(None if patient else max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            stop.clear()
        raise
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(items))]
