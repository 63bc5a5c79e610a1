"""`POST /v1/models/NAME:predict` as TensorFlow Serving has it, and KServe's version 1.

Source: TensorFlow Serving's RESTful API. Rules: `instances` is a list of rows, each an object of
all inputs or, of a model with one input, its value; the answer is `predictions`, row by row.
`inputs` is the columns, answered by `outputs`. `{"b64": …}` stands for bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dockyard_serve.errors import BadRequest, InvalidInput
from dockyard_serve.inference import Fitted, Signature
from dockyard_serve.protocols.oip import JSON_TYPE, Answer, dump_json, load_json
from dockyard_serve.protocols.plain import fit_nested, nested_outputs
from dockyard_serve.tensors import Array, from_nested, objects


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A read request; by_row if the answer is `predictions`."""

    fitted: Fitted
    by_row: bool
    timeout: float | None = None


def read_predict(signature: Signature, body: bytes) -> RowRequest:
    """The request of a body; raises BadRequest or InvalidInput."""
    document = load_json(body)
    if not isinstance(document, dict) or ("instances" in document) == ("inputs" in document):
        raise BadRequest("the body must be a JSON object with either `instances` or `inputs`")
    wanted = document.get("signature_name", "serving_default")
    if wanted not in ("serving_default", ""):
        raise BadRequest("the model has one signature", expected="serving_default")
    if "inputs" in document:
        columns = document["inputs"]
        if not isinstance(columns, dict):
            columns = {_only(signature): columns}
        return RowRequest(_fit(signature, columns), by_row=False)
    rows = document["instances"]
    if not isinstance(rows, list) or not rows:
        raise BadRequest("`instances` must be a list of at least one row")
    if not signature.batched:
        raise BadRequest("the model's first axis isn't a batch: send `inputs`, not `instances`")
    return RowRequest(_fit(signature, _columns(signature, rows)), by_row=True)


def _only(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        raise BadRequest(
            "the model has several inputs: name them", expected=", ".join(signature.inputs)
        )
    return next(iter(signature.inputs))


def _columns(signature: Signature, rows: list[Any]) -> dict[str, list[Any]]:
    named = isinstance(rows[0], dict) and "b64" not in rows[0]
    if not named:
        return {_only(signature): rows}
    names = list(rows[0])
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != columns.keys():
            raise BadRequest(
                f"row {number} of `instances` has other inputs than the first",
                expected=", ".join(names),
            )
        for name in names:
            columns[name].append(row[name])
    return columns


def _fit(signature: Signature, columns: Mapping[str, Any]) -> Fitted:
    arrays = {
        name: _read(name, signature.spec(name).datatype, value) for name, value in columns.items()
    }
    request = fit_nested(signature, arrays)
    if request.bare:
        raise InvalidInput(
            "the inputs lack the batch axis",
            expected=", ".join(map(str, signature.inputs.values())),
        )
    return request.fitted


def _read(name: str, datatype: str, value: Any) -> Array:
    if datatype != "BYTES" or not _has_base64(value):
        return from_nested(name, datatype, value)
    decoded = [
        _decode(name, element) for element in (value if isinstance(value, list) else [value])
    ]
    return objects(decoded)


def _has_base64(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, dict)


def _decode(name: str, element: Any) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, dict) and isinstance(element.get("b64"), str) and len(element) == 1:
        try:
            return base64.b64decode(element["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput(f"input {name!r} has a `b64` that isn't base64", name=name) from None
    raise InvalidInput(f"input {name!r} has elements that are neither text nor `b64`", name=name)


def write_predict(
    signature: Signature, request: RowRequest, outputs: Mapping[str, Array]
) -> Answer:
    """The predictions row by row, or the outputs by name; one output stands without its name."""
    nested, finite = nested_outputs(signature, outputs, bare=False)
    if not request.by_row:
        value = nested if len(nested) > 1 else next(iter(nested.values()))
        return Answer(dump_json({"outputs": value}, finite=finite), JSON_TYPE)
    if len(nested) == 1:
        return Answer(
            dump_json({"predictions": next(iter(nested.values()))}, finite=finite), JSON_TYPE
        )
    lists = {
        name: value if isinstance(value, list) else value.tolist() for name, value in nested.items()
    }
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return Answer(dump_json({"predictions": rows}, finite=finite), JSON_TYPE)
