"""The OpenAPI 3.1 document of the models that are ready.

Rules: schemas are JSON Schema 2020-12, which 3.1 takes as they are; those with names are moved to
`components`, under the model's name. `x-dockyard` tells the page what a schema can't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dockyard_serve.model import Model, TensorSpec
    from dockyard_serve.predictor.signature import Signature

Json = dict[str, Any]

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What was wrong."},
        "input": {"type": "string", "description": "The input that it was about."},
        "expected": {"type": "string"},
        "received": {"type": "string"},
    },
}
_ERRORS = {
    "400": "The request isn't what the model takes.",
    "401": "An API key is needed.",
    "413": "The body is too large.",
    "415": "The body is of a type that isn't taken.",
    "500": "The model failed; the log has the cause.",
    "503": "The queue is full, or the server isn't ready; Retry-After says when to ask again.",
    "504": "There was no answer in time.",
}
_NUMBER = {"type": "number"}
# Readers of JSON that take NaN and Infinity at all, as they are written, know them as null.
_ANY_NUMBER = {"type": ["number", "null"]}
_INTEGERS = {f"INT{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)} | {
    f"UINT{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)
}


def openapi_document(models: Sequence[Model]) -> Json:
    """Describe the models; with one of them, `/predict` is its."""
    paths: Json = {}
    schemas: Json = {"Error": _ERROR}
    for model in models:
        post = _predict(model, schemas)
        if len(models) == 1:
            paths["/predict"] = {"post": {**post, "operationId": "predict"}}
        paths[f"/models/{model.name}/predict"] = {"post": post}
        if model.inputs:
            paths[f"/v2/models/{model.name}"] = {"get": _metadata(model)}
    paths |= _server_paths()
    names = ", ".join(model.name for model in models) or "no model"
    return {
        "openapi": "3.1.0",
        "info": {"title": names, "version": models[0].version if len(models) == 1 else "1"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _server_paths() -> Json:
    health = {"type": "object", "properties": {"status": {"type": "string"}}}
    answers = {
        "200": _response("Ready.", health),
        "503": _response("Starting, or stopping.", health),
    }
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {}}}
    return {
        "/healthz": {
            "get": {
                "operationId": "healthz",
                "summary": "Whether it is ready",
                "responses": answers,
            }
        },
        "/metrics": {
            "get": {"operationId": "metrics", "summary": "Metrics", "responses": {"200": text}}
        },
    }


def _metadata(model: Model) -> Json:
    return {
        "operationId": f"metadata_{_identifier(model.name)}",
        "summary": f"{model.name}'s inputs and outputs, as the Open Inference Protocol tells them",
        "tags": [model.name],
        "responses": {"200": _response("The metadata.", {"type": "object"})},
    }


def _predict(model: Model, schemas: Json) -> Json:
    signature: Signature | None = getattr(model, "signature", None)
    described = _by_tensors(model) if signature is None else _by_signature(signature)
    prefix = _identifier(model.name)
    operation: Json = {
        "operationId": f"predict_{prefix}",
        "tags": [model.name],
        **_moved(described, prefix, schemas),
    }
    for status, text in _ERRORS.items():
        reference = {"$ref": "#/components/schemas/Error"}
        operation["responses"][status] = _response(text, reference)
    return operation


def _response(text: str, schema: Json) -> Json:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


# Python classes


def _by_signature(signature: Signature) -> Json:
    schema = signature.schema()
    schema.pop("title", None)
    form = {**schema, "properties": dict(schema.get("properties", {}))}
    for parameter in signature.parameters:
        if parameter.kind == "plain":
            continue
        said = form["properties"][parameter.name]
        file: Json = {"type": "string", "format": "binary"}
        file = {"type": "array", "items": file} if parameter.many else file
        form["properties"][parameter.name] = file | {
            key: said[key] for key in ("title", "description") if key in said
        }
    content: Json = {"application/json": {"schema": schema}}
    if signature.parameters:
        content["multipart/form-data"] = {"schema": form}
    parameters = [
        {"name": item.name, "kind": item.kind, "many": item.many, "required": item.required}
        for item in signature.parameters
    ]
    return {
        "summary": signature.summary or "Run the model",
        "description": signature.description,
        "requestBody": {
            "required": any(item.required for item in signature.parameters),
            "content": content,
        },
        "responses": {"200": _result(signature)},
        "x-dockyard": {"kind": "python", "parameters": parameters, "streams": signature.streams},
    }


def _result(signature: Signature) -> Json:
    schema = dict(signature.result)
    if signature.streams:
        events = {"schema": {"type": "string", "description": "`data:` lines of JSON."}}
        listed = {"schema": {"type": "array", "items": schema}}
        content = {"text/event-stream": events, "application/json": listed}
        return {"description": "Each item as an event; the last one is `done`.", "content": content}
    if signature.result_kind == "image":
        return {"description": "The picture.", "content": {"image/png": {}}}
    if signature.result_kind == "file":
        return {"description": "The file.", "content": {"*/*": {}}}
    return _response("The result.", schema)


# Tensors


def _by_tensors(model: Model) -> Json:
    batched = model.max_batch_size is not None
    listed = ", ".join(f"{spec.name}: {spec}" for spec in model.inputs)
    return {
        "summary": f"Run {model.name}",
        "description": f"Takes {listed}."
        + (" One item without the batch axis, or a batch of them." if batched else ""),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _tensors(model.inputs, batched=batched)}},
        },
        "responses": {
            "200": _response(
                "The outputs by name.", _tensors(model.outputs, batched=batched, number=_ANY_NUMBER)
            )
        },
        "x-dockyard": {
            "kind": "tensors",
            "batched": batched,
            "inputs": [_described(spec) for spec in model.inputs],
            "outputs": [_described(spec) for spec in model.outputs],
        },
    }


def _described(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _tensors(
    specs: Sequence[TensorSpec], *, batched: bool, number: Mapping[str, Any] = _NUMBER
) -> Json:
    """An object of tensors; those of a batched model all have the batch axis, or all lack it."""

    def whole(skip: int) -> Json:
        return {
            "type": "object",
            "required": [spec.name for spec in specs],
            "additionalProperties": False,
            "properties": {spec.name: _nested(spec, skip, number) for spec in specs},
        }

    return {"anyOf": [whole(1), whole(0)]} if batched else whole(0)


def _nested(spec: TensorSpec, skip: int, number: Mapping[str, Any]) -> Json:
    if spec.datatype == "BYTES":
        schema: Json = {"type": "string"}
    elif spec.datatype == "BOOL":
        schema = {"type": "boolean"}
    elif spec.datatype in _INTEGERS:
        least, most = _INTEGERS[spec.datatype]
        schema = {"type": "integer", "minimum": least, "maximum": most}
    else:
        schema = dict(number)
    for axis, size in reversed(list(enumerate(spec.shape))[skip:]):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
        elif axis == 0:
            schema["minItems"] = 1
    return {**schema, "description": str(spec)}


def _moved(value: Any, prefix: str, schemas: Json) -> Any:
    """The value with its `$defs` moved to `schemas`, and what refers to them following."""
    if isinstance(value, list):
        return [_moved(item, prefix, schemas) for item in value]
    if not isinstance(value, Mapping):
        return value
    for name, schema in value.get("$defs", {}).items():
        schemas[f"{prefix}.{_component(name)}"] = _moved(schema, prefix, schemas)
    moved = {key: _moved(item, prefix, schemas) for key, item in value.items() if key != "$defs"}
    target = moved.get("$ref")
    if isinstance(target, str) and target.startswith("#/$defs/"):
        name = _component(target.removeprefix("#/$defs/"))
        moved["$ref"] = f"#/components/schemas/{prefix}.{name}"
    return moved


def _component(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
