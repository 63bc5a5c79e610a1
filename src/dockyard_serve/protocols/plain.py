"""`POST /predict`: plain JSON by the names of a model's inputs, and the same for its outputs.

Rules: a body is an object of the inputs; of a model with one input it may be that input alone. A
tensor that lacks the batch axis is taken as a batch of one, and the outputs then lack it too. Bytes
(`application/octet-stream`) are the only input as the binary extension has it; `.npy` files
(`application/x-npy`) say their type and shape themselves.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dockyard_serve.errors import BadRequest, InvalidInput, UnsupportedMediaType
from dockyard_serve.inference import Fitted, Signature
from dockyard_serve.model import TensorSpec
from dockyard_serve.protocols.oip import JSON_TYPE, Answer, dump_json, load_json, read_single
from dockyard_serve.tensors import (
    Array,
    all_finite,
    datatype_of,
    from_nested,
    to_nested,
)

NPY_TYPES = frozenset({"application/x-npy", "application/npy"})
_JSON_TYPES = frozenset({"", "application/json", "text/json", "application/x-www-form-urlencoded"})


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A read request; bare if its tensors came without the batch axis."""

    fitted: Fitted
    bare: bool
    timeout: float | None = None


def read_plain(signature: Signature, body: bytes, media_type: str) -> PlainRequest:
    """The request of a body; raises BadRequest, InvalidInput, or UnsupportedMediaType."""
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type == "application/octet-stream":
        array = read_single(signature, body)
        return PlainRequest(signature.fit({next(iter(signature.inputs)): array}), bare=False)
    if media_type in NPY_TYPES:
        return fit_nested(signature, {_only(signature).name: _read_npy(signature, body)})
    if media_type not in _JSON_TYPES and not media_type.endswith("+json"):
        raise UnsupportedMediaType(
            f"{media_type[:80]} isn't taken here",
            expected="application/json, application/octet-stream, application/x-npy",
        )
    document = load_json(body)
    if not isinstance(document, dict):
        document = {_only(signature).name: document}
    return fit_nested(signature, _from_lists(signature, document))


def _only(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        raise BadRequest(
            "the model has several inputs: send an object with all of them",
            expected=", ".join(signature.inputs),
        )
    return next(iter(signature.inputs.values()))


def _from_lists(signature: Signature, document: Mapping[str, Any]) -> dict[str, Array]:
    return {
        name: from_nested(name, signature.spec(name).datatype, value)
        for name, value in document.items()
    }


def _read_npy(signature: Signature, body: bytes) -> Array:
    spec = _only(signature)
    try:
        array: Array = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadRequest(f"the body isn't a .npy file: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufSU":
        raise BadRequest("the .npy file holds no array of numbers or text")
    if datatype_of(array.astype(array.dtype.newbyteorder("="))) != spec.datatype:
        raise InvalidInput(
            f"input {spec.name!r} has another datatype than the model's",
            name=spec.name,
            expected=str(spec),
            received=f"{array.dtype} {list(array.shape)}",
        )
    return array.astype(array.dtype.newbyteorder("="))


def fit_nested(signature: Signature, arrays: Mapping[str, Array]) -> PlainRequest:
    """Check arrays against the model; all of them may lack the batch axis."""
    bare = signature.batched and all(
        array.ndim == len(signature.spec(name).shape) - 1 for name, array in arrays.items()
    )
    inputs: dict[str, Array] = {}
    for name, array in arrays.items():
        spec = signature.spec(name)
        shaped = array[np.newaxis] if bare else array
        signature.check(spec, spec.datatype, shaped.shape)
        inputs[name] = shaped
    return PlainRequest(signature.fit(inputs), bare)


def nested_outputs(
    signature: Signature, outputs: Mapping[str, Array], *, bare: bool
) -> tuple[dict[str, Any], bool]:
    """The outputs as nested lists by name, and whether all numbers are finite."""
    shaped = {name: array[0] if bare else array for name, array in outputs.items()}
    nested = {}
    for name, array in shaped.items():
        spec = signature.outputs.get(name)
        nested[name] = to_nested(name, spec.datatype if spec else datatype_of(array), array)
    return nested, all_finite(shaped.values())


def write_plain(
    signature: Signature, request: PlainRequest, outputs: Mapping[str, Array]
) -> Answer:
    """The outputs by name."""
    nested, finite = nested_outputs(signature, outputs, bare=request.bare)
    return Answer(dump_json(nested, finite=finite), JSON_TYPE)
