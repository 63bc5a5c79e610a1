"""A model that serves: its queue, its numbers, and how requests of any protocol get to it.

Rules: whatever a model raises that isn't meant for clients is logged with its trace and answered
with 500. A version that is replaced answers what it has taken, then closes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from dockyard_serve.batching import Batcher, Job, QueueLimits
from dockyard_serve.errors import ModelFailed, Overloaded, ServeError
from dockyard_serve.http.exchange import Exchange
from dockyard_serve.http.message import Response, error_response
from dockyard_serve.inference import Fitted, Signature, TensorRunner, made_up_inputs
from dockyard_serve.metrics import Metrics
from dockyard_serve.model import Model, ObjectModel, Slot
from dockyard_serve.tensors import Array

log = logging.getLogger("dockyard.serve")

_CALIBRATION = 0.05  # Seconds, and the call that crosses them.

Outputs = Mapping[str, Array]
Read = TypeVar("Read", bound="HasFitted")


class HasFitted(Protocol):
    """What a protocol read: tensors that fit, and the client's own time limit in seconds."""

    @property
    def fitted(self) -> Fitted: ...
    @property
    def timeout(self) -> float | None: ...


class Written(Protocol):
    """An answer's bytes."""

    @property
    def body(self) -> bytes: ...
    @property
    def media_type(self) -> bytes: ...
    @property
    def json_length(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Speaks(Generic[Read]):
    """A protocol over tensors: how its requests are read and its answers written."""

    name: str
    read: Callable[[Signature, Exchange], Read]
    write: Callable[[Signature, Read, Outputs], Written]


class _Numbers:
    """The metrics of one version of a model; also told of batches by the queue."""

    def __init__(self, metrics: Metrics, model: Model) -> None:
        self._labels = {"model": model.name, "version": model.version}
        self._metrics = metrics
        self._answers: dict[tuple[str, int], Any] = {}
        stage = "dockyard_stage_duration_seconds"
        self.preprocess = metrics.histogram(stage, {**self._labels, "stage": "preprocess"})
        self.queue = metrics.histogram(stage, {**self._labels, "stage": "queue"})
        self.inference = metrics.histogram(stage, {**self._labels, "stage": "inference"})
        self.postprocess = metrics.histogram(stage, {**self._labels, "stage": "postprocess"})
        self.whole = metrics.histogram("dockyard_request_duration_seconds", self._labels)
        self.rows = metrics.histogram("dockyard_batch_size", self._labels)
        self.errors = metrics.value("dockyard_model_errors_total", self._labels)
        self.ready = metrics.value("dockyard_model_ready", self._labels)
        self.load_seconds = metrics.value("dockyard_model_load_seconds", self._labels)
        self.depth = metrics.value("dockyard_queue_depth", self._labels)
        self.capacity = metrics.value("dockyard_queue_capacity", self._labels)
        self.in_flight = metrics.value("dockyard_in_flight", self._labels)

    def batch(self, jobs: int, rows: int, seconds: float) -> None:
        self.rows.observe(rows)

    def answered(self, protocol: str, status: int) -> None:
        counter = self._answers.get((protocol, status))
        if counter is None:
            labels = {**self._labels, "protocol": protocol, "code": str(status)}
            counter = self._metrics.value("dockyard_requests_total", labels)
            self._answers[protocol, status] = counter
        counter.add()


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """Who answered a request, for its record; job: its way through the queue, None without one."""

    model: str
    version: str
    job: Job | None = None


class Served:
    """A loaded version of a model, on the event loop that made it."""

    def __init__(self, model: Model, limits: QueueLimits, metrics: Metrics) -> None:
        self.model = model
        self.signature = Signature(model)
        self.numbers = _Numbers(metrics, model)
        self.limits = limits
        self.numbers.capacity.set(limits.max_queue)
        self._tensors = TensorRunner(self.signature, limits.max_batch_size)
        self._objects = model if isinstance(model, ObjectModel) else None
        self._held = 0
        self.batcher = Batcher(self._run, limits, observer=self.numbers, on_crash=self._crashed)

    @property
    def object_model(self) -> ObjectModel | None:
        """The model, if it answers `/predict` itself."""
        return self._objects

    def _run(self, items: Sequence[Any]) -> Sequence[Any]:
        if isinstance(items[0], Fitted):
            return self._tensors.run(items)
        assert self._objects is not None
        return self._objects.run(items)

    def _crashed(self, error: BaseException) -> None:
        self.numbers.errors.add()
        log.error(
            "the model raised %s",
            type(error).__name__,
            exc_info=error,
            extra={"model": self.model.name, "version": self.model.version},
        )

    def answer(self, protocol: Speaks[Read], exchange: Exchange) -> None:
        """Read a request, queue it, and answer when the model has."""
        try:
            request = protocol.read(self.signature, exchange)
            timeout = self._timeout(exchange, request.timeout)

            def done(job: Job, result: Any) -> None:
                exchange.on_gone = None
                self._write(protocol, exchange, request, job, result)

            fitted = request.fitted
            job = Job(fitted, done, rows=fitted.rows, bucket=fitted.bucket, timeout=timeout)
            exchange.on_gone = lambda: self.batcher.cancel(job)
            self.batcher.submit(job)
        except ServeError as error:
            exchange.on_gone = None
            self.fail(protocol.name, exchange, error)

    def _write(
        self, protocol: Speaks[Read], exchange: Exchange, request: Read, job: Job, result: Any
    ) -> None:
        numbers = self.numbers
        exchange.about = AnsweredBy(self.model.name, self.model.version, job)
        numbers.preprocess.observe(job.queued - exchange.received)
        if job.began:
            numbers.queue.observe(job.began - job.queued)
        if job.ended:
            numbers.inference.observe(job.ended - job.began)
        if isinstance(result, BaseException):
            self.fail(protocol.name, exchange, self.client_error(result))
            return
        written_from = time.perf_counter()
        try:
            answer = protocol.write(self.signature, request, result)
        except ServeError as error:
            self.fail(protocol.name, exchange, error)
            return
        except Exception as error:
            self._crashed(error)
            self.fail(protocol.name, exchange, self.client_error(error))
            return
        if answer.json_length is None:
            exchange.send(answer.body, media_type=answer.media_type)
        else:
            length = (("Inference-Header-Content-Length", str(answer.json_length)),)
            exchange.send(answer.body, media_type=answer.media_type, headers=length)
        now = time.perf_counter()
        numbers.postprocess.observe(now - written_from)
        numbers.whole.observe(now - exchange.received)
        numbers.answered(protocol.name, 200)

    def fail(self, protocol: str, exchange: Exchange, error: ServeError) -> None:
        """Answer with an error, and count it."""
        if exchange.about is None:
            exchange.about = AnsweredBy(self.model.name, self.model.version)
        exchange.fail(error)
        self.numbers.whole.observe(time.perf_counter() - exchange.received)
        self.numbers.answered(protocol, error.status)

    @staticmethod
    def client_error(error: BaseException) -> ServeError:
        """What a client is told of an exception."""
        if isinstance(error, ServeError):
            return error
        return ModelFailed("the model failed on this request; the server's log says why")

    def _timeout(self, exchange: Exchange, asked: float | None) -> float:
        """The shortest of the server's, the header's and the request's own time limits."""
        timeout = self.limits.timeout if asked is None else min(asked, self.limits.timeout)
        header = exchange.head.headers.get("x-request-timeout")
        if header is None:
            return timeout
        return min(timeout, parse_timeout(header))

    async def infer(self, fitted: Fitted, timeout: float | None) -> Outputs:
        """The outputs, for protocols that wait; raises ServeErrors only."""
        outputs: Outputs = await self._wait(fitted, fitted.rows, fitted.bucket, timeout)
        return outputs

    async def _wait(self, item: Any, rows: int, bucket: object, timeout: float | None) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        limit = self.limits.timeout if timeout is None else min(timeout, self.limits.timeout)

        def done(job: Job, result: Any) -> None:
            if not future.done():
                future.set_result(result)

        job = Job(
            item,
            done,
            rows=rows,
            bucket=bucket,
            timeout=limit,
        )
        self.batcher.submit(job)
        try:
            result = await future
        except asyncio.CancelledError:
            self.batcher.cancel(job)
            raise
        self.numbers.queue.observe(max(0.0, job.began - job.queued))
        self.numbers.inference.observe(max(0.0, job.ended - job.began))
        if isinstance(result, BaseException):
            raise self.client_error(result)
        return result

    async def counted(self, answering: Awaitable[Response]) -> Response:
        """The answer of a model of Python objects, counted; what it raised is an answer too."""
        began = time.perf_counter()
        try:
            response = await answering
        except ServeError as error:
            response = error_response(error)
        except Exception as error:
            self._crashed(error)
            response = error_response(self.client_error(error))
        self.numbers.whole.observe(time.perf_counter() - began)
        self.numbers.answered("predict", response.status)
        return response

    def queue(self, exchange: Exchange | None = None) -> ObjectQueue:
        """The queue as models of Python objects see it."""
        timeout = None if exchange is None else self._timeout(exchange, None)
        return ObjectQueue(self, timeout)

    def refresh(self) -> None:
        """Set the gauges, before they are read."""
        self.numbers.depth.set(self.batcher.depth)
        self.numbers.in_flight.set(self.batcher.running + self._held)

    def take_slot(self) -> None:
        """One more call outside of the queue; raises Overloaded."""
        if self._held >= self.limits.max_queue:
            raise Overloaded("the model has as many requests as it takes")
        self._held += 1

    def give_slot(self) -> None:
        """The call is over."""
        self._held -= 1

    def calibrate(self) -> None:
        """Learn what batches cost, so that the first requests already take the shorter way."""
        if not self.signature.inputs:
            return
        rows = 1
        until = time.perf_counter() + _CALIBRATION
        while rows <= self.limits.max_batch_size and time.perf_counter() < until:
            inputs = made_up_inputs(self.model, rows)
            try:
                for _ in range(3):
                    began = time.perf_counter()
                    self.model.infer(inputs)
                    self.batcher.learn(rows, time.perf_counter() - began)
            except Exception:
                log.debug("made-up inputs don't suit the model", exc_info=True)
                return
            rows *= 2

    async def close(self) -> None:
        """Answer what was taken, then close the model."""
        self.numbers.ready.set(0)
        await self.batcher.close()
        while self._held:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self.model.close)


class ObjectQueue:
    """`dockyard_serve.model.Queue` for one request."""

    def __init__(self, served: Served, timeout: float | None) -> None:
        self._served = served
        self._timeout = timeout

    async def run(self, item: Any, *, bucket: object = None, rows: int = 1) -> Any:
        return await self._served._wait(item, rows, ("object", bucket), self._timeout)

    def hold(self) -> Slot:
        return HeldSlot(self._served)


class HeldSlot:
    """`dockyard_serve.model.Slot`."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def __enter__(self) -> Slot:
        self._served.take_slot()
        return self

    def __exit__(self, *exc: object) -> None:
        self._served.give_slot()


def parse_timeout(text: str) -> float:
    """Seconds of an X-Request-Timeout header; what isn't a positive number is no limit."""
    try:
        seconds = float(text)
    except ValueError:
        return float("inf")
    return seconds if seconds > 0 else float("inf")
