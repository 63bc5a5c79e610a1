"""The queue of a model: what shares a batch, what fails alone, what is refused or dropped."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from dockyard_serve.batching import Batcher, Job, QueueLimits
from dockyard_serve.errors import DeadlineExceeded, Overloaded, Unavailable


class Recorder:
    """A model that doubles numbers, and remembers its batches; waits while `gate` is shut."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, items):
        self.batches.append(list(items))
        assert self.gate.wait(10)
        if any(item == "bad" for item in items):
            raise ValueError("bad")
        return [item * 2 for item in items]


class Results:
    """Collects what jobs come to."""

    def __init__(self):
        self.found = {}
        self.changed = asyncio.Event()

    def job(self, item, **options):
        def done(job, result):
            self.found[item] = result
            self.changed.set()

        return Job(item, done, **options)

    async def wait(self, count):
        while len(self.found) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)
        return self.found


def in_loop(test):
    """Run an `async def` test on a loop of its own."""

    def run():
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


@in_loop
async def test_what_arrives_together_is_one_batch():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=8))
    for item in range(5):
        batcher.submit(results.job(item))
    assert await results.wait(5) == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}
    assert model.batches == [[0, 1, 2, 3, 4]]


@in_loop
async def test_what_arrives_while_the_model_is_busy_is_the_next_batch():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=8))
    model.gate.clear()
    batcher.submit(results.job(0))
    await until(lambda: model.batches)
    for item in (1, 2, 3):
        batcher.submit(results.job(item))
        await asyncio.sleep(0)
    model.gate.set()
    await results.wait(4)
    assert model.batches == [[0], [1, 2, 3]]


@in_loop
async def test_a_batch_is_no_larger_than_allowed_counting_rows():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=4))
    for item, rows in enumerate([2, 2, 3, 9, 1]):
        batcher.submit(results.job(item, rows=rows))
    await results.wait(5)
    assert model.batches == [[0, 1], [2], [3], [4]]


@in_loop
async def test_only_equal_buckets_share_a_batch():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=8))
    for item in range(6):
        batcher.submit(results.job(item, bucket=item % 2))
    await results.wait(6)
    assert model.batches == [[0, 2, 4], [1, 3, 5]]


@in_loop
async def test_a_bad_item_fails_alone():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=8))
    for item in (1, "bad", 3):
        batcher.submit(results.job(item))
    found = await results.wait(3)
    assert (found[1], found[3]) == (2, 6)
    assert isinstance(found["bad"], ValueError)
    assert model.batches == [[1, "bad", 3], [1], ["bad"], [3]]


@in_loop
async def test_waits_for_more_only_if_asked_and_no_longer_than_a_full_batch():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=3, max_delay=60.0))
    for item in range(3):
        batcher.submit(results.job(item))
        await asyncio.sleep(0.01)
    await results.wait(3)
    assert model.batches == [[0, 1, 2]]


@in_loop
async def test_a_full_queue_refuses_at_once():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_queue=2))
    model.gate.clear()
    batcher.submit(results.job(0))
    await until(lambda: model.batches)
    batcher.submit(results.job(1))
    batcher.submit(results.job(2))
    with pytest.raises(Overloaded) as caught:
        batcher.submit(results.job(3))
    assert int(caught.value.headers["Retry-After"]) >= 1
    model.gate.set()
    assert sorted(await results.wait(3)) == [0, 1, 2]


@in_loop
async def test_a_job_that_is_late_is_told_and_never_run():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits())
    model.gate.clear()
    batcher.submit(results.job(0, timeout=60.0))
    await until(lambda: model.batches)
    batcher.submit(results.job(1, timeout=0.02))
    found = await results.wait(1)
    assert isinstance(found[1], DeadlineExceeded)
    assert batcher.depth == 0
    model.gate.set()
    await results.wait(2)
    assert model.batches == [[0]]


@in_loop
async def test_a_job_that_runs_too_long_is_told_while_it_runs():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits())
    model.gate.clear()
    batcher.submit(results.job(0, timeout=0.02))
    found = await results.wait(1)
    assert isinstance(found[0], DeadlineExceeded)
    model.gate.set()
    await batcher.close()


@in_loop
async def test_a_cancelled_job_gives_up_its_place():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_queue=1))
    model.gate.clear()
    batcher.submit(results.job(0))
    await until(lambda: model.batches)
    left = results.job(1)
    batcher.submit(left)
    batcher.cancel(left)
    batcher.submit(results.job(2))
    model.gate.set()
    await results.wait(2)
    assert model.batches == [[0], [2]]


@in_loop
async def test_closing_answers_what_was_taken_and_takes_nothing_more():
    model, results = Recorder(), Results()
    batcher = Batcher(model.run, QueueLimits(max_batch_size=1))
    for item in range(3):
        batcher.submit(results.job(item))
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        batcher.submit(results.job(9))
    await closing
    assert results.found == {0: 0, 1: 2, 2: 4}


@in_loop
async def test_quick_batches_run_on_the_loop_and_slow_ones_in_a_thread():
    threads = []

    def run(items):
        threads.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.002 if items[0] == "slow" else 0)
        return items

    results = Results()
    batcher = Batcher(run, QueueLimits())
    batcher.learn(1, 0.00001)
    batcher.submit(results.job("quick"))
    await results.wait(1)
    for _ in range(3):
        batcher.learn(2, 0.1)
    batcher.submit(results.job("slow", rows=2))
    await results.wait(2)
    assert threads == [True, False]
