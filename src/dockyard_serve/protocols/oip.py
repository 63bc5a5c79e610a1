"""Inference requests and answers of the Open Inference Protocol v2, with its binary extension.

Source: the protocol's `required_api.md` and, for binary tensors, Triton's
`extension_binary_data.md`. Rules: a tensor is in JSON unless its `binary_data_size` says that its
bytes follow the JSON, whose length is in the Inference-Header-Content-Length header. NaN and
infinities, which JSON lacks, are read and written as Triton and Python do: as bare words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from dockyard_serve.errors import BadRequest, InvalidInput
from dockyard_serve.inference import Fitted, Signature
from dockyard_serve.tensors import (
    NUMPY_TYPES,
    Array,
    all_finite,
    datatype_of,
    element_size,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

HEADER_LENGTH = "inference-header-content-length"
BINARY_TYPE = b"application/octet-stream"
JSON_TYPE = b"application/json"
_MOST_AXES = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output the client asks for, and whether as binary data."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A read request. wanted: None for all outputs, of which `binary` then says how."""

    fitted: Fitted
    id: str | None
    wanted: tuple[Wanted, ...] | None
    binary: bool
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A written answer; json_length is None unless binary data follows the JSON."""

    body: bytes
    media_type: bytes
    json_length: int | None = None


def load_json(text: bytes | memoryview) -> Any:
    """JSON as clients write it, NaN and infinities included; raises BadRequest."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raw = bytes(text)
        if b"NaN" in raw or b"Infinity" in raw:
            try:
                return json.loads(raw)
            except (ValueError, RecursionError):
                pass
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"the body isn't JSON: {error.msg.split(':')[0]} at {where}") from None


def dump_json(value: Any, *, finite: bool) -> bytes:
    """JSON, with NaN and Infinity as bare words if there are any."""
    if finite:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(
        value, separators=(",", ":"), ensure_ascii=False, default=lambda array: array.tolist()
    ).encode()


def read_infer(signature: Signature, body: bytes, json_length: str | None) -> InferRequest:
    """The request of a body; json_length is the header's value.

    Raises BadRequest for what isn't the protocol, InvalidInput for what the model doesn't take.
    """
    if json_length is None:
        return _read(signature, load_json(body), memoryview(b""))
    length = _header_length(json_length, len(body))
    if length == 0:
        return _read_raw(signature, body)
    view = memoryview(body)
    return _read(signature, load_json(view[:length]), view[length:])


def _header_length(text: str, size: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) > size:
        raise BadRequest(
            "Inference-Header-Content-Length must be the length of the JSON in the body",
            expected=f"0 to {size}",
            received=text[:40],
        )
    return int(text)


def _read(signature: Signature, document: Any, binary: memoryview) -> InferRequest:
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object with `inputs`")
    listed = document.get("inputs")
    if not isinstance(listed, list):
        raise BadRequest("`inputs` must be a list of tensors")
    inputs: dict[str, Array] = {}
    for entry in listed:
        array, binary = _read_tensor(signature, entry, binary)
        name = entry["name"]
        if name in inputs:
            raise InvalidInput(f"input {name!r} is there twice", name=name)
        inputs[name] = array
    if len(binary):
        raise BadRequest(f"{len(binary)} bytes of binary data follow the last tensor")
    parameters = _parameters(document, "the request")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadRequest("`id` must be a string")
    default = bool(parameters and parameters.get("binary_data_output"))
    wanted = document.get("outputs")
    return InferRequest(
        signature.fit(inputs),
        identity,
        None if not wanted else _read_wanted(signature, wanted, default),
        default,
        _read_timeout(parameters),
    )


def _parameters(document: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"`parameters` of {of} must be an object")
    return parameters


def _read_timeout(parameters: Mapping[str, Any]) -> float | None:
    """Triton's `timeout` in microseconds; 0 is none."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
        raise BadRequest("the parameter `timeout` must be a number of microseconds")
    return timeout / 1e6 if timeout else None


def _read_tensor(signature: Signature, entry: Any, binary: memoryview) -> tuple[Array, memoryview]:
    """A tensor, and the binary data that is left after it."""
    try:
        name, datatype, shape = entry["name"], entry["datatype"], entry["shape"]
    except (TypeError, KeyError):
        raise BadRequest("each of `inputs` must have `name`, `datatype`, and `shape`") from None
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise BadRequest("`name` and `datatype` of an input must be strings")
    spec = signature.spec(name)
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise BadRequest(f"`shape` of input {name!r} must be a list of sizes")
    for size in shape:
        if type(size) is not int or size < 0:
            raise BadRequest(f"`shape` of input {name!r} must be a list of sizes")
    if datatype not in NUMPY_TYPES:
        raise InvalidInput(
            f"input {name!r} has a datatype that the protocol doesn't know",
            name=name,
            expected=spec.datatype,
            received=datatype[:40],
        )
    signature.check(spec, datatype, shape)
    data = entry.get("data")
    if data is not None:
        return from_json(name, datatype, shape, data), binary
    size = _parameters(entry, f"input {name!r}").get("binary_data_size")
    if size is None:
        raise BadRequest(f"input {name!r} has neither `data` nor a `binary_data_size`")
    if type(size) is not int or not 0 <= size <= len(binary):
        raise BadRequest(
            f"input {name!r} has a `binary_data_size` beyond the body",
            expected=f"0 to {len(binary)}",
            received=str(size)[:40],
        )
    return from_bytes(name, datatype, shape, binary[:size]), binary[size:]


def _read_wanted(signature: Signature, wanted: Any, default: bool) -> tuple[Wanted, ...]:
    if not isinstance(wanted, list):
        raise BadRequest("`outputs` must be a list of tensors")
    found = []
    for entry in wanted:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise BadRequest("each of `outputs` must have a `name`")
        if signature.outputs and name not in signature.outputs:
            expected = ", ".join(signature.outputs)
            raise InvalidInput(f"the model has no output {name!r}", name=name, expected=expected)
        parameters = _parameters(entry, f"output {name!r}")
        if parameters.get("classification"):
            raise BadRequest("the classification extension isn't offered; rank the output yourself")
        found.append(Wanted(name, bool(parameters.get("binary_data", default))))
    return tuple(found)


def _read_raw(signature: Signature, body: bytes) -> InferRequest:
    """A body of nothing but a tensor's bytes, for a model with one input (Triton's raw request)."""
    array = read_single(signature, body)
    return InferRequest(
        signature.fit({next(iter(signature.inputs)): array}), None, None, True, None
    )


def read_single(signature: Signature, body: bytes) -> Array:
    """The model's only input as raw bytes, whose length gives the one free axis it may have."""
    if len(signature.inputs) != 1:
        raise BadRequest("raw bytes are for a model with one input", inputs=list(signature.inputs))
    spec = next(iter(signature.inputs.values()))
    size = element_size(spec.datatype)
    shape = list(spec.shape)
    free = [axis for axis, length in enumerate(shape) if length == -1]
    if size is None:
        shape = [1 if length == -1 else length for length in shape]
        return from_bytes(spec.name, spec.datatype, shape, body)
    for axis in free[1:]:
        raise BadRequest(
            f"raw bytes don't say the size of axis {axis}", expected=str(spec), input=spec.name
        )
    if free:
        fixed = math.prod(length for length in shape if length != -1) * size
        shape[free[0]] = len(body) // fixed if fixed else 0
    return from_bytes(spec.name, spec.datatype, shape, body)


def write_infer(
    signature: Signature, request: InferRequest, outputs: Mapping[str, Array]
) -> Answer:
    """The answer with the outputs that the client wants."""
    model = signature.model
    document: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        document["id"] = request.id
    entries = []
    pieces = []
    arrays = []
    for wanted in request.wanted or [Wanted(name, request.binary) for name in outputs]:
        array = outputs[wanted.name]
        spec = signature.outputs.get(wanted.name)
        datatype = spec.datatype if spec is not None else datatype_of(array)
        entry: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": array.shape}
        if wanted.binary:
            raw = to_bytes(datatype, array)
            pieces.append(raw)
            entry["parameters"] = {"binary_data_size": len(raw)}
        else:
            entry["data"] = to_json(wanted.name, datatype, array)
            arrays.append(array)
        entries.append(entry)
    document["outputs"] = entries
    text = dump_json(document, finite=all_finite(arrays))
    if not pieces:
        return Answer(text, JSON_TYPE)
    return Answer(b"".join([text, *pieces]), BINARY_TYPE, len(text))
