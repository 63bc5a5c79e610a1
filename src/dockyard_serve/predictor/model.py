"""A class as a model of the server: loads it, queues its calls, streams its generators.

Rules: a plain `predict` runs in the model's thread, one call (or batch) at a time. An `async` one
runs on the event loop, as many at once as the queue has places. A generator's items are sent as
they come, and it is closed when the client leaves. What a predictor raises is a 500 and in the log,
unless it is one of the server's own errors, which are for clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard_serve.errors import (
    InvalidInput,
    LoadError,
    ModelFailed,
    NotImplementedHere,
    ServeError,
)
from dockyard_serve.predictor.answer import event_stream, result_response, wants_json
from dockyard_serve.predictor.body import read_body
from dockyard_serve.predictor.signature import Signature, read_signature
from dockyard_serve.predictor.values import decoded

if TYPE_CHECKING:
    from dockyard_serve.http.message import Request, Response
    from dockyard_serve.model import Queue, Source, Tensors, TensorSpec

log = logging.getLogger("dockyard.serve")
_END = object()


@dataclass(slots=True)
class Call:
    """The arguments of one request; a stream's items go to `emit`, until `cancelled` is set."""

    arguments: dict[str, Any]
    emit: Callable[[Any], None] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class PredictorModel:
    """A predictor, as `dockyard_serve.model.ObjectModel` has it."""

    platform = "python"
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()

    def __init__(self, source: Source, predictor: Any, signature: Signature) -> None:
        self.name = source.name
        self.version = source.version
        self.signature = signature
        self.max_batch_size = signature.max_batch_size
        self._predictor = predictor
        self._predict = predictor if inspect.isroutine(predictor) else predictor.predict

    def infer(self, inputs: Tensors) -> Tensors:
        """Refused: a predictor takes Python's types, not tensors."""
        raise NotImplementedHere("this model takes no tensors: POST to its /predict")

    def warm_up(self) -> None:
        """Call the predictor's own `warm_up`, if it has one."""
        own = getattr(self._predictor, "warm_up", None)
        if callable(own):
            _finished(own())

    def close(self) -> None:
        """Call the predictor's own `close`, if it has one."""
        own = getattr(self._predictor, "close", None)
        if callable(own):
            _finished(own())

    # In the model's thread

    def run(self, items: Sequence[Call]) -> Sequence[Any]:
        """One result for each call; an exception in a call's place fails that call alone."""
        ready: list[Call] = []
        results: list[Any] = [None] * len(items)
        for number, item in enumerate(items):
            try:
                item.arguments = {key: decoded(value) for key, value in item.arguments.items()}
            except ValueError as error:
                results[number] = InvalidInput(f"an image {error}")
                continue
            ready.append(item)
        if ready:
            found = iter(self._run(ready))
            results = [next(found) if result is None else result for result in results]
        return results

    def _run(self, items: Sequence[Call]) -> Sequence[Any]:
        if self.max_batch_size is None:
            return [self._run_one(item) for item in items]
        names = [parameter.name for parameter in self.signature.parameters]
        columns = {name: [item.arguments[name] for item in items] for name in names}
        results = self._predict(**columns)
        count = len(results) if hasattr(results, "__len__") else None
        if count != len(items):
            raise ModelFailed(f"the batched predict gave {count} results for {len(items)} requests")
        return list(results)

    def _run_one(self, item: Call) -> Any:
        result = self._predict(**item.arguments)
        if item.emit is None:
            return result if not inspect.isgenerator(result) else list(result)
        with contextlib.closing(result) as items:
            for part in items:
                if item.cancelled.is_set():
                    break
                item.emit(part)
        return None

    # On the event loop

    async def answer(self, request: Request, queue: Queue) -> Response:
        """Read a request by the signature, run it, and write the result."""
        values = read_body(request, self.signature.parameters)
        call = Call(self.signature.check(values))
        if self.signature.streams:
            items = (
                self._stream_async(call, queue)
                if self.signature.is_async
                else self._stream(call, queue)
            )
            if wants_json(request.headers.get("accept", "")):
                return result_response([item async for item in items])
            return event_stream(await _begun(items))
        if self.signature.is_async:
            return result_response(await self._run_async(call, queue))
        return result_response(await queue.run(call))

    async def _run_async(self, call: Call, queue: Queue) -> Any:
        with queue.hold():
            arguments = await _decoded(call.arguments)
            with _translated(self.name):
                return await self._predict(**arguments)

    async def _stream_async(self, call: Call, queue: Queue) -> AsyncGenerator[Any]:
        with queue.hold():
            arguments = await _decoded(call.arguments)
            async with contextlib.aclosing(self._predict(**arguments)) as items:
                with _translated(self.name):
                    async for item in items:
                        yield item

    async def _stream(self, call: Call, queue: Queue) -> AsyncGenerator[Any]:
        """The items of a generator that runs in the model's thread."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[Any] = asyncio.Queue()
        call.emit = lambda item: _hand_over(loop, waiting, item)
        running = asyncio.ensure_future(queue.run(call))
        running.add_done_callback(lambda _: waiting.put_nowait(_END))
        try:
            while (item := await waiting.get()) is not _END:
                yield item
            await running
        finally:
            call.cancelled.set()
            if not running.done():
                running.cancel()


def _hand_over(loop: asyncio.AbstractEventLoop, waiting: asyncio.Queue[Any], item: Any) -> None:
    loop.call_soon_threadsafe(waiting.put_nowait, item)


async def _begun(items: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """The stream, its first item waited for, so that what fails at once has a status of its own."""
    try:
        first = await anext(items)
    except StopAsyncIteration:
        first = _END

    async def whole() -> AsyncGenerator[Any]:
        async with contextlib.aclosing(items):
            if first is not _END:
                yield first
            async for item in items:
                yield item

    return whole()


async def _decoded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with their images decoded, in a thread where there are any."""
    if not any(hasattr(value, "load") or isinstance(value, list) for value in arguments.values()):
        return arguments
    try:
        return await asyncio.to_thread(
            lambda: {key: decoded(value) for key, value in arguments.items()}
        )
    except ValueError as error:
        raise InvalidInput(f"an image {error}") from None


@contextlib.contextmanager
def _translated(name: str) -> Any:
    """What an async predictor raises, as the queue does it for others."""
    try:
        yield
    except ServeError:
        raise
    except Exception as error:
        log.exception("model %s failed", name)
        raise ModelFailed("the model failed; its log has the cause") from error


def load_class(source: Source) -> PredictorModel:
    """Import `module:Class` (or a function), set it up and read its signature; raises LoadError."""
    assert source.spec is not None
    where = source.spec
    found = _imported(source.spec, where)
    predictor = found
    if inspect.isclass(found):
        try:
            predictor = found()
        except Exception as error:
            log.exception("%s can't be made", where)
            raise LoadError(f"making it raised {_said(error)}", where=where) from error
    function = predictor if inspect.isroutine(predictor) else getattr(predictor, "predict", None)
    if not callable(function):
        raise LoadError(
            "has no method `predict`", where=where, hint="Add one: it is called for each request."
        )
    signature = read_signature(
        function, where=f"{where}.{getattr(function, '__name__', 'predict')}"
    )
    setup = getattr(predictor, "setup", None)
    if callable(setup):
        try:
            _finished(setup())
        except LoadError:
            raise
        except Exception as error:
            log.exception("setup of %s failed", where)
            raise LoadError(f"setup raised {_said(error)}", where=where) from error
    return PredictorModel(source, predictor, signature)


def _finished(result: Any) -> None:
    """Wait for what may be a coroutine; there is no event loop in the threads that load."""
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _imported(spec: str, where: str) -> Any:
    name, _, attribute = spec.partition(":")
    folder = os.getcwd()  # noqa: PTH109 - the text that sys.path holds
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = _from_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LoadError(
            f"there is no module {error.name}",
            where=where,
            hint="Start in the folder that has it, or install it.",
        ) from error
    except Exception as error:
        log.exception("importing %s failed", name)
        raise LoadError(f"importing it raised {_said(error)}", where=where) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise LoadError(f"{name} has no {attribute}", where=where) from None


def _from_file(path: Path) -> Any:
    """A module by its file's path, importable by its own name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ModuleNotFoundError(f"No module named {path}", name=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
