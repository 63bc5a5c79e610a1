"""Several transfers at once, of which the first failure ends all.

Rules: results are in the order of the items. After a failure, or Ctrl-C, what hasn't begun isn't
begun, what runs is told to stop, and nothing runs on behind the caller's back.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from dockyard.oci.registry.attempts import Stopped

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


def run_parallel(
    work: Callable[[T], R], items: Sequence[T], *, parallel: int, stop: threading.Event
) -> list[R]:
    """Apply work to the items, `parallel` at a time; stop is set while a failure unwinds."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(parallel, len(items)), thread_name_prefix="transfer") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for each in done if (error := each.exception()) is not None]
            if errors:
                raise next((one for one in errors if not isinstance(one, Stopped)), errors[0])
            return [each.result() for each in futures]
        except BaseException:
            stop.set()
            try:
                pool.shutdown(wait=True, cancel_futures=True)
            finally:
                stop.clear()
            raise
