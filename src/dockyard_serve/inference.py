"""Whether tensors fit a model, and how several requests' tensors become one call and come apart.

Rules: what reaches a model has its names, datatypes and shapes, so its own errors are its own. Rows
come out in the order in which they went in; a model that gives other numbers of rows is at fault,
not its clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dockyard_serve.errors import InvalidInput, ModelFailed
from dockyard_serve.model import Model, TensorSpec
from dockyard_serve.tensors import NUMPY_TYPES, Array, describe

Tensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tensors that fit a model: rows of the batch, and the bucket whose tensors can join them."""

    inputs: Tensors
    rows: int
    bucket: object


class Signature:
    """A model's inputs, made ready to check requests against."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.inputs = {spec.name: spec for spec in model.inputs}
        self.outputs = {spec.name: spec for spec in model.outputs}
        self.batched = model.max_batch_size is not None
        self._free = [
            name
            for name, spec in self.inputs.items()
            if -1 in (spec.shape[1:] if self.batched else spec.shape)
        ]

    def spec(self, name: str) -> TensorSpec:
        """The input of this name; raises InvalidInput."""
        spec = self.inputs.get(name)
        if spec is None:
            raise InvalidInput(
                f"the model has no input {name!r}", name=name, expected=", ".join(self.inputs)
            )
        return spec

    def check(self, spec: TensorSpec, datatype: str, shape: Sequence[int]) -> None:
        """Raise InvalidInput unless a tensor is what the model takes."""
        if datatype != spec.datatype:
            raise InvalidInput(
                f"input {spec.name!r} has another datatype than the model's",
                name=spec.name,
                expected=str(spec),
                received=describe(datatype, shape),
            )
        wanted = spec.shape
        if len(wanted) == len(shape):
            for axis, size in zip(wanted, shape, strict=True):
                if axis not in (-1, size):
                    break
            else:
                return
        raise InvalidInput(
            f"input {spec.name!r} has another shape than the model's",
            name=spec.name,
            expected=str(spec),
            received=describe(datatype, shape),
        )

    def fit(self, inputs: dict[str, Array]) -> Fitted:
        """Checked inputs as one piece of work; raises InvalidInput if some are missing."""
        if len(inputs) != len(self.inputs):
            missing = [str(spec) for name, spec in self.inputs.items() if name not in inputs]
            name = next(name for name in self.inputs if name not in inputs)
            raise InvalidInput(f"input {name!r} is missing", name=name, expected=missing[0])
        if not self.batched:
            return Fitted(inputs, 1, None)
        sizes = {array.shape[0] for array in inputs.values()}
        if len(sizes) != 1 or 0 in sizes:
            received = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise InvalidInput(
                "the inputs' first axis, the batch, must be of the same size, at least 1",
                received=received,
            )
        bucket = tuple(inputs[name].shape[1:] for name in self._free) if self._free else None
        return Fitted(inputs, sizes.pop(), bucket)


class TensorRunner:
    """Runs a model on the tensors of one request or of several at once."""

    def __init__(self, signature: Signature, max_batch_size: int) -> None:
        self._model = signature.model
        self._batched = signature.batched
        self._max_rows = max_batch_size

    def run(self, items: Sequence[Fitted]) -> list[Tensors]:
        """Each item's outputs; raises what the model raised."""
        if not self._batched:
            return [self._checked(self._model.infer(item.inputs), None) for item in items]
        if len(items) == 1:
            item = items[0]
            if item.rows <= self._max_rows:
                return [self._checked(self._model.infer(item.inputs), item.rows)]
            return [self._in_parts(item)]
        first = items[0].inputs
        joined = {name: np.concatenate([item.inputs[name] for item in items]) for name in first}
        outputs = self._checked(self._model.infer(joined), sum(item.rows for item in items))
        results: list[Tensors] = []
        at = 0
        for item in items:
            end = at + item.rows
            results.append({name: array[at:end] for name, array in outputs.items()})
            at = end
        return results

    def _in_parts(self, item: Fitted) -> Tensors:
        """A request larger than the largest batch, as several batches one after the other."""
        parts = []
        for at in range(0, item.rows, self._max_rows):
            end = min(at + self._max_rows, item.rows)
            part = {name: array[at:end] for name, array in item.inputs.items()}
            parts.append(self._checked(self._model.infer(part), end - at))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @staticmethod
    def _checked(outputs: Tensors, rows: int | None) -> Tensors:
        if rows is not None:
            for name, array in outputs.items():
                if array.ndim == 0 or array.shape[0] != rows:
                    raise ModelFailed(
                        f"the model gave output {name!r} as {list(array.shape)} for {rows} rows"
                    )
        return outputs


def made_up_inputs(model: Model, rows: int = 1) -> dict[str, Array]:
    """Zeros (or empty texts) of the model's inputs; free axes are 1, the batch is `rows`."""
    made: dict[str, Array] = {}
    for spec in model.inputs:
        shape = [1 if axis == -1 else axis for axis in spec.shape]
        if model.max_batch_size is not None and shape:
            shape[0] = rows
        fill: Any = b"" if spec.datatype == "BYTES" else 0
        made[spec.name] = np.full(shape, fill, dtype=NUMPY_TYPES[spec.datatype])
    return made
