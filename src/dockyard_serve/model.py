"""What a model is to the server: tensors by name in, tensors by name out.

Rules: a model knows nothing of HTTP, batching or queues. `infer` is called by one thread at a time.
Two protocols exist: `Model` speaks in tensors only; `ObjectModel` also takes Python objects and
answers its own `/predict`, as classes with typed signatures do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from dockyard_serve.http.message import Request, Response

    Tensors = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor that a model takes or gives.

    datatype: as the Open Inference Protocol writes it (BOOL, UINT8 … INT64, FP16, FP32, FP64, BF16,
    BYTES). shape: -1 is a free axis; of a model that takes batches (`max_batch_size` not None) the
    first axis is the batch, and free.

    In memory BF16 is a float32 array, BYTES an object array of `bytes`, everything else the numpy
    type of the same name.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.shape)}"


class Model(Protocol):
    """A loaded model.

    platform: `onnxruntime_onnx`, `pytorch_torchscript` …, shown in the metadata.
    max_batch_size: rows the model takes at once; None if its first axis isn't a batch.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def inputs(self) -> Sequence[TensorSpec]: ...
    @property
    def outputs(self) -> Sequence[TensorSpec]: ...
    @property
    def max_batch_size(self) -> int | None: ...

    def infer(self, inputs: Tensors) -> Tensors:
        """The outputs for inputs that fit the specs.

        The rows of a batch come out in the order they went in. InvalidInput blames the request;
        any other exception is logged and answered with 500.
        """
        ...

    def warm_up(self) -> None:
        """Run once on made-up inputs, so that the first request isn't slow."""
        ...

    def close(self) -> None:
        """Give back what the model holds; called once, after the last `infer` returned."""
        ...


class Queue(Protocol):
    """A model's own queue: bounded, batched, with deadlines; made by the server."""

    async def run(self, item: Any, *, bucket: object = None, rows: int = 1) -> Any:
        """What `ObjectModel.run` gives for the item.

        Items of equal buckets may go in one batch. Raises Overloaded, DeadlineExceeded, or what
        `run` returned or raised for this item; is cancelled with the request.
        """
        ...

    def hold(self) -> Slot:
        """Take a place without queueing, for `async` predictors; Overloaded if none is left."""
        ...


class Slot(Protocol):
    """A place in a model's load: an ordinary context manager."""

    def __enter__(self) -> Slot: ...
    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class ObjectModel(Model, Protocol):
    """A model that takes Python objects; answers `/predict` and `/models/NAME/predict` itself."""

    def run(self, items: Sequence[Any]) -> Sequence[Any]:
        """One result for each item, in order, in the model's thread.

        1 to `max_batch_size` items (1 if that is None). A result that is an exception fails its
        item alone. If `run` itself raises for several items, each is run again on its own.
        """
        ...

    async def answer(self, request: Request, queue: Queue) -> Response:
        """Answer a POST: read it by the signature, `await queue.run(…)`, write the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from.

    path: a file or folder, or None if `spec` (`module:Class`) names Python code. threads: how many
    the framework may use for one call. options: the keys of the model's configuration
    (`max_batch_size`, `trust`, `device` …).
    """

    name: str
    version: str = "1"
    path: Path | None = None
    spec: str | None = None
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


Load = Callable[[Source], Model]
"""Chooses the format and loads: raises LoadError."""
