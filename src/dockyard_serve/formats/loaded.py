"""A model that a framework runs: its specs beside one function from arrays to arrays.

Rules: every format's module makes one of these, and nothing else knows the framework.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.model import TensorSpec
from dockyard_serve.tensors import NUMPY_TYPES, datatype_of

if TYPE_CHECKING:
    from dockyard_serve.model import Source

Arrays = Mapping[str, "np.ndarray[Any, Any]"]

DEFAULT_BATCH = 64
_LOG = logging.getLogger("dockyard_serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A `dockyard_serve.model.Model`; `function` is the framework's call."""

    name: str
    version: str
    platform: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    max_batch_size: int | None
    function: Callable[[Arrays], Arrays]

    def infer(self, inputs: Arrays) -> Arrays:
        """The outputs for inputs that fit the specs."""
        return self.function(inputs)

    def warm_up(self) -> None:
        """Run once on zeros; a model whose free axes don't take 1 stays cold, and that is told."""
        made_up = {spec.name: zeros(spec) for spec in self.inputs}
        try:
            self.function(made_up)
        except Exception as error:  # The frameworks' errors have no common base.
            _LOG.info("%s isn't warmed up: zeros of its shapes fail (%s)", self.name, error)

    def close(self) -> None:
        """Nothing to give back: the framework frees the model with its last reference."""


def zeros(spec: TensorSpec, *, rows: int = 1) -> np.ndarray[Any, Any]:
    """Made-up content for a spec: `rows` in the first axis if it is free, 1 in other free axes."""
    shape = [
        size if size >= 0 else (rows if axis == 0 else 1) for axis, size in enumerate(spec.shape)
    ]
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=NUMPY_TYPES[spec.datatype])


def batch_limit(
    source: Source,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    most: int | None = None,
) -> int | None:
    """How many rows may go in at once: what is configured, else `most`, else DEFAULT_BATCH.

    None where the model's first axes can't be a batch, or the configuration says 0. Raises
    LoadError when a batch is configured for a model that has none.
    """
    free = all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs))
    said = source.options.get("max_batch_size")
    if said is None:
        return min(DEFAULT_BATCH, most or DEFAULT_BATCH) if free else None
    if said and not free:
        fixed = next(spec for spec in (*inputs, *outputs) if spec.shape[:1] != (-1,))
        raise LoadError(
            f"takes no batches: {fixed.name} is {fixed}, whose first axis isn't free",
            where=str(source.path),
            hint="Leave max-batch-size out, or export the model with a free first axis.",
        )
    return int(said) or None


def specs_from_options(source: Source) -> tuple[TensorSpec, ...] | None:
    """The inputs that the configuration states for formats that don't: {name: "FP32 [-1, 8]"}."""
    said = source.options.get("inputs")
    if said is None:
        return None
    specs = []
    for name, text in dict(said).items():
        datatype, _, rest = str(text).partition("[")
        sizes = [
            item.strip() for item in rest.rstrip().removesuffix("]").split(",") if item.strip()
        ]
        try:
            shape = tuple(map(int, sizes))
            NUMPY_TYPES[datatype.strip()]
        except (ValueError, KeyError) as error:
            raise LoadError(
                f"inputs.{name} is {text!r}, which is no datatype and shape",
                where="configuration",
                hint='Write it as in inputs = { image = "FP32 [-1, 1, 8, 8]" }.',
            ) from error
        specs.append(TensorSpec(name=name, datatype=datatype.strip(), shape=shape))
    return tuple(specs)


def output_specs(
    function: Callable[[Arrays], Arrays], inputs: Sequence[TensorSpec], source: Source
) -> tuple[TensorSpec, ...]:
    """The outputs' specs, found by two calls with zeros; sizes that follow the batch are free.

    Raises LoadError when the model can't take zeros of the shapes it states.
    """
    try:
        one, three = (
            function({spec.name: zeros(spec, rows=rows) for spec in inputs}) for rows in (1, 3)
        )
    except Exception as error:
        raise LoadError(
            f"fails on zeros of its inputs' shapes: {str(error).strip().splitlines()[-1][:300]}",
            where=str(source.path),
            hint='State the right shapes in [serve]: inputs = { name = "FP32 [-1, 8]" }.',
        ) from error
    specs = []
    for name, array in one.items():
        sizes = zip(array.shape, three[name].shape, strict=True)
        shape = tuple(-1 if first != second else first for first, second in sizes)
        specs.append(TensorSpec(name=name, datatype=datatype_of(array), shape=shape))
    return tuple(specs)


def in_powers_of_two(function: Callable[[Arrays], Arrays]) -> Callable[[Arrays], Arrays]:
    """Pad batches to powers of two, for frameworks that compile anew for every size.

    The rows that pad repeat the last one, so that they can't fail where it doesn't.
    """

    def infer(arrays: Arrays) -> Arrays:
        rows = len(next(iter(arrays.values())))
        size = 1 << max(0, rows - 1).bit_length()
        if size == rows:
            return function(arrays)
        padded = {
            name: np.concatenate([a, np.repeat(a[-1:], size - rows, axis=0)])
            for name, a in arrays.items()
        }
        return {name: array[:rows] for name, array in function(padded).items()}

    return infer
