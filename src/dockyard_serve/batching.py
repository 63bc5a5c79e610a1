"""A model's queue: what arrives while the model is busy forms the next batch.

Rules: nothing waits while the model is idle, unless a `max_delay` asks for it. Only jobs of one
bucket share a batch. A batch that fails is run again job by job, so that a bad one fails alone. The
queue is bounded, and refuses at once what can't be answered in time. Everything here runs on the
event loop, except `_run`.

A batch that is expected to take less than `_INLINE` seconds is run on the loop itself: handing it
to the thread and back costs more than the time in which the loop could have read other requests.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dockyard_serve.errors import DeadlineExceeded, Overloaded, ServeError, Unavailable

_INLINE = 0.0005  # Seconds.
_COARSE = 0.005  # Seconds between two looks for what is overdue.
_FORGETS = 0.2  # Weight of the newest measurement in the estimate of a row's cost.


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """max_batch_size in rows, 1 for none; max_delay and timeout in seconds; max_queue in jobs."""

    max_batch_size: int = 1
    max_delay: float = 0.0
    max_queue: int = 512
    timeout: float = 30.0


class Job:
    """One item on its way through the model.

    done: called once on the loop, with a result or an exception; not after `cancel`. The times are
    of `time.perf_counter()`: when it was queued, and when its batch began and ended.
    """

    __slots__ = ("began", "bucket", "deadline", "done", "ended", "item", "over", "queued", "rows")

    def __init__(
        self,
        item: Any,
        done: Callable[[Job, Any], None],
        *,
        rows: int = 1,
        bucket: object = None,
        timeout: float | None = None,
    ) -> None:
        self.item = item
        self.done = done
        self.rows = rows
        self.bucket = bucket
        self.queued = time.perf_counter()
        self.deadline = math.inf if timeout is None else self.queued + timeout
        self.began = self.ended = 0.0
        self.over = False


Run = Callable[[Sequence[Any]], Sequence[Any]]
"""One result, or exception, for each item; raises if all fail together."""


class Observer(Protocol):
    """Is told what happens, for the metrics."""

    def batch(self, jobs: int, rows: int, seconds: float) -> None: ...


class Batcher:
    """The queue of one model: `submit` jobs, `close` when the model goes."""

    def __init__(
        self,
        run: Run,
        limits: QueueLimits,
        *,
        observer: Observer | None = None,
        on_crash: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self.limits = limits
        self.depth = 0
        self.running = 0
        self._run_items = run
        self._observer = observer
        self._on_crash = on_crash
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[object, deque[Job]] = {}
        self._busy: list[Job] | None = None
        self._flush_at: asyncio.Handle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = math.inf
        self._row_cost: float | None = None
        self._batch_cost: dict[int, float] = {}
        self._closed: asyncio.Future[None] | None = None
        self._work: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    # In.

    def submit(self, job: Job) -> None:
        """Queue a job; raises Overloaded if there is no place, or no chance before its deadline."""
        if self._closed is not None:
            raise Unavailable("the model is being unloaded")
        if self.depth >= self.limits.max_queue or self._expected_wait() > job.deadline - job.queued:
            raise Overloaded(
                "the model's queue is full", retry_after=math.ceil(self._expected_wait())
            )
        bucket = self._buckets.get(job.bucket)
        if bucket is None:
            bucket = self._buckets[job.bucket] = deque()
        bucket.append(job)
        self.depth += 1
        if self._busy is not None:
            self._watch_deadlines(job.deadline)
        elif self._flush_at is None:
            # At the end of this round of the loop, when all sockets that had something were read.
            if self.limits.max_delay > 0:
                self._flush_at = self._loop.call_later(self.limits.max_delay, self._flush)
                self._watch_deadlines(job.deadline)
            else:
                self._flush_at = self._loop.call_soon(self._flush)
        if self.limits.max_delay > 0 and self._busy is None:
            rows = sum(waiting.rows for waiting in bucket)
            if rows >= self.limits.max_batch_size and self._flush_at is not None:
                self._flush_at.cancel()
                self._flush_at = self._loop.call_soon(self._flush)

    def cancel(self, job: Job) -> None:
        """Give up a job's place; if it runs already, its result is dropped."""
        if not job.over:
            job.over = True
            if job.began == 0.0:
                self.depth -= 1

    def _expected_wait(self) -> float:
        if self._row_cost is None or self._busy is None:
            return 0.0
        return (self.depth + self.running) * self._row_cost

    # Through.

    def _flush(self) -> None:
        """Start the next batch, if the model is free and anything waits."""
        self._flush_at = None
        if self._busy is not None:
            return
        batch = self._take_batch()
        if not batch:
            self._finish_closing()
            return
        rows = sum(job.rows for job in batch)
        self.running = len(batch)
        now = time.perf_counter()
        for job in batch:
            job.began = now
        self.depth -= len(batch)
        if self._batch_cost.get(rows.bit_length(), math.inf) < _INLINE:
            self._busy = batch
            results = self._run(batch)
            self._busy = None
            self._complete(batch, results)
            if self._buckets:
                self._flush_at = self._loop.call_soon(self._flush)
            elif self._closed is not None:
                self._finish_closing()
            return
        self._busy = batch
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve_thread, daemon=True, name="model")
            self._thread.start()
        self._watch_deadlines(min(job.deadline for job in batch))
        self._work.put(batch)

    def _take_batch(self) -> list[Job]:
        """The bucket whose first job waits longest, up to the largest batch."""
        now = time.perf_counter()
        while self._buckets:
            key = min(self._buckets, key=lambda key: self._buckets[key][0].queued)
            bucket = self._buckets[key]
            batch: list[Job] = []
            rows = 0
            while bucket:
                job = bucket[0]
                if job.over:
                    bucket.popleft()
                    continue
                if job.deadline <= now:
                    bucket.popleft()
                    self._expire(job)
                    continue
                if batch and rows + job.rows > self.limits.max_batch_size:
                    break
                batch.append(bucket.popleft())
                rows += job.rows
            if not bucket:
                del self._buckets[key]
            if batch:
                return batch
        return []

    def _run(self, batch: list[Job]) -> Sequence[Any]:
        """The results of a batch; runs in the model's thread, or on the loop."""
        try:
            results = self._run_items([job.item for job in batch])
        except Exception as error:
            results = [error] if len(batch) == 1 else [self._run_alone(job) for job in batch]
        ended = time.perf_counter()
        for job in batch:
            job.ended = ended
        return results

    def _run_alone(self, job: Job) -> Any:
        if job.over:
            return None
        try:
            return self._run_items([job.item])[0]
        except Exception as error:
            return error

    def _serve_thread(self) -> None:
        while (batch := self._work.get()) is not None:
            results: Sequence[Any]
            try:
                results = self._run(batch)
            except BaseException as error:  # SystemExit in a model must not stop its queue
                results = [error] * len(batch)
            self._loop.call_soon_threadsafe(self._ran, batch, results)
            del batch, results

    def _ran(self, batch: list[Job], results: Sequence[Any]) -> None:
        self._busy = None
        if self.depth >= len(batch):
            # As many wait as just ran: the model needn't wait until these are answered.
            self._flush()
            self._complete(batch, results)
        else:
            self._complete(batch, results)
            if self._busy is None and self._flush_at is None:
                if self._buckets:
                    self._flush_at = self._loop.call_soon(self._flush)
                elif self._closed is not None:
                    self._finish_closing()

    # Out.

    def _complete(self, batch: list[Job], results: Sequence[Any]) -> None:
        if self._busy is None:
            self.running = 0
        seconds = batch[0].ended - batch[0].began
        rows = sum(job.rows for job in batch)
        self.learn(rows, seconds)
        if self._observer is not None:
            self._observer.batch(len(batch), rows, seconds)
        for job, result in zip(batch, results, strict=True):
            if not job.over:
                job.over = True
                if isinstance(result, BaseException) and not isinstance(result, ServeError):
                    self._on_crash(result)
                job.done(job, result)

    def learn(self, rows: int, seconds: float) -> None:
        """Keep what a batch of about this size costs: a first, slow call is soon forgotten."""
        size = rows.bit_length()
        known = self._batch_cost.get(size, seconds)
        self._batch_cost[size] = min(seconds, known + _FORGETS * (seconds - known))
        cost = seconds / rows
        known = self._row_cost if self._row_cost is not None else cost
        self._row_cost = known + _FORGETS * (cost - known)

    def _expire(self, job: Job) -> None:
        job.over = True
        if job.began == 0.0:
            self.depth -= 1
        job.done(job, DeadlineExceeded("the answer wasn't ready in time"))

    def _watch_deadlines(self, deadline: float) -> None:
        if deadline + _COARSE < self._watch_at:
            if self._watch is not None:
                self._watch.cancel()
            delay = max(_COARSE, deadline - time.perf_counter())
            self._watch = self._loop.call_later(delay, self._look_for_overdue)
            self._watch_at = deadline

    def _look_for_overdue(self) -> None:
        self._watch = None
        self._watch_at = math.inf
        now = time.perf_counter()
        jobs = [job for bucket in self._buckets.values() for job in bucket]
        jobs += self._busy or []
        live = [job for job in jobs if not job.over]
        for job in live:
            if job.deadline <= now:
                self._expire(job)
        self._watch_deadlines(min((job.deadline for job in live if not job.over), default=math.inf))

    # End.

    async def close(self) -> None:
        """Finish what is queued, then end the thread; nothing is taken any more."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            if self._busy is None and not self._buckets:
                self._finish_closing()
        await asyncio.shield(self._closed)

    def _finish_closing(self) -> None:
        if self._closed is not None and not self._closed.done():
            if self._watch is not None:
                self._watch.cancel()
            self._work.put(None)
            self._closed.set_result(None)
