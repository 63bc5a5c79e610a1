"""What a class's `predict` takes and gives, read from its annotations.

Rules: every parameter needs an annotation, and can be left out of a request if it has a default.
`Annotated[float, Field(ge=0, le=1)]` and the like are pydantic's, and so are dataclasses,
TypedDict, enums and Literal. Of a batched method each annotation is a list of what requests send.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from dockyard_serve.errors import InvalidInput, LoadError
from dockyard_serve.marks import BATCHED
from dockyard_serve.predictor.values import Kind, checked, kind_of

_STREAMS = (
    *(collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator),
    *(collections.abc.AsyncIterator, collections.abc.AsyncIterable),
    collections.abc.AsyncGenerator,
)
_REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One field of a request. kind: how it comes in a form; many: several of it make a list."""

    name: str
    kind: Kind
    required: bool
    many: bool
    is_text: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A `predict` made ready: `fields` is the pydantic model of a request.

    max_batch_size: of a batched method; result: the JSON Schema of one answer (of one event, if it
    streams); result_kind: "image" and "file" are answered as such, not as JSON.
    """

    parameters: Sequence[Parameter]
    fields: type[BaseModel]
    max_batch_size: int | None
    is_async: bool
    streams: bool
    result: Mapping[str, Any]
    result_kind: Kind
    summary: str
    description: str

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a request; raises InvalidInput that names the first wrong field."""
        try:
            found = self.fields.model_validate(values)
        except ValidationError as error:
            raise _blame(error) from None
        return {name: getattr(found, _inner(name)) for name in (p.name for p in self.parameters)}

    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of a request."""
        return self.fields.model_json_schema()


def read_signature(function: Callable[..., Any], *, where: str) -> Signature:
    """Read a function, bound if it is a method; raises LoadError for what can't be a request."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise LoadError(
            f"an annotation names {error.name!r}, which isn't there at run time",
            where=where,
            hint="Import it outside of `if TYPE_CHECKING`.",
        ) from None
    most: int | None = getattr(function, BATCHED, None)
    fields: dict[str, Any] = {}
    parameters = []
    for parameter in signature.parameters.values():
        annotation = _annotation(parameter, where, batched=most is not None)
        kind = kind_of(annotation)
        required = parameter.default is inspect.Parameter.empty
        fields[_inner(parameter.name)] = (
            checked(annotation),
            Field(... if required else parameter.default, alias=parameter.name),
        )
        parameters.append(
            Parameter(
                name=parameter.name,
                kind=kind,
                required=required,
                many=_is_list(annotation),
                is_text=_is_text(annotation),
            )
        )
    config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=False, title="Request", ser_json_inf_nan="null"
    )
    try:
        model = create_model("Request", __config__=config, **fields)
        model.model_json_schema()
    except (PydanticUserError, TypeError, NotImplementedError) as error:
        raise LoadError(
            f"a parameter's type can't be read from a request: {_first_line(error)}",
            where=where,
            hint="Use numbers, strings, enums, lists, dataclasses, pydantic models, File, "
            "PIL.Image.Image or numpy.ndarray.",
        ) from None
    raw = inspect.unwrap(getattr(function, "__func__", function))
    streams = inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)
    is_async = inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw)
    if most is not None and (streams or is_async):
        raise LoadError(
            "a batched `predict` can be neither async nor a generator",
            where=where,
            hint="Leave out @batched, or make it a plain method that returns a list.",
        )
    returned = _returned(signature, streams=streams, batched=most is not None)
    documentation = inspect.getdoc(raw) or ""
    summary, _, description = documentation.partition("\n")
    return Signature(
        parameters=tuple(parameters),
        fields=model,
        max_batch_size=most,
        is_async=is_async,
        streams=streams,
        result=_result_schema(returned),
        result_kind=_plain_kind(returned),
        summary=summary.strip(),
        description=description.strip(),
    )


def _inner(name: str) -> str:
    # pydantic keeps names with a leading underscore, and some of its own, for itself.
    return f"field_{name}"


def _annotation(parameter: inspect.Parameter, where: str, *, batched: bool) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise LoadError(
            f"`predict` takes *{parameter.name}, which no request could be checked against",
            where=where,
            hint="Name its parameters, each with a type.",
        )
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        raise LoadError(
            f"the parameter {parameter.name} has no type",
            where=where,
            hint=f"Write it: {parameter.name}: float, list[str], PIL.Image.Image …",
        )
    if not batched:
        return annotation
    if not _is_list(annotation) or not typing.get_args(annotation):
        raise LoadError(
            f"of a batched `predict` every parameter is a list, and {parameter.name} isn't",
            where=where,
            hint=f"Write {parameter.name}: list[…], with the type that one request sends.",
        )
    return _element(annotation)


def _is_list(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _is_list(typing.get_args(annotation)[0])
    return annotation is list or origin in (list, collections.abc.Sequence)


def _element(annotation: Any) -> Any:
    if typing.get_origin(annotation) is Annotated:
        return _element(typing.get_args(annotation)[0])
    return typing.get_args(annotation)[0]


def _is_text(annotation: Any) -> bool:
    """Whether a form's text is the value itself, not JSON: strings, and what strings stand for."""
    try:
        schema = TypeAdapter(checked(annotation)).json_schema()
    except (PydanticUserError, TypeError, NotImplementedError):
        return False
    if "$ref" in schema:
        schema = schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    choices = [schema, *schema.get("anyOf", [])]
    return any(choice.get("type") == "string" or _all_text(choice) for choice in choices)


def _all_text(schema: Mapping[str, Any]) -> bool:
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    return bool(values) and all(isinstance(value, str) for value in values)


def _returned(signature: inspect.Signature, *, streams: bool, batched: bool) -> Any:
    annotation = signature.return_annotation
    if annotation is inspect.Signature.empty:
        return Any
    if streams and typing.get_origin(annotation) in _STREAMS:
        return (*typing.get_args(annotation), Any)[0]
    if batched and _is_list(annotation) and typing.get_args(annotation):
        return _element(annotation)
    return annotation


def _plain_kind(annotation: Any) -> Kind:
    """Image or file if that is the whole result."""
    return kind_of(annotation) if typing.get_origin(annotation) in (None, Annotated) else "plain"


def _result_schema(annotation: Any) -> Mapping[str, Any]:
    """The result's schema; empty where pydantic can't tell: it is sent all the same."""
    try:
        return TypeAdapter(checked(annotation)).json_schema(mode="serialization")
    except (PydanticUserError, TypeError, NotImplementedError):
        return {}


def _blame(error: ValidationError) -> InvalidInput:
    problems = []
    for details in error.errors(include_url=False, include_context=False):
        name = ".".join(str(part).removeprefix("field_") for part in details["loc"]) or "body"
        text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        problems.append((name, details["type"], text[:1].lower() + text[1:]))
    name, kind, text = problems[0]
    message = f"{name}: {text}"
    if kind == "missing":
        message = f"{name} is missing"
    elif kind == "extra_forbidden":
        message = f"{name} is no parameter of this model"
    invalid = InvalidInput(message, name=name, expected=text)
    if len(problems) > 1:
        invalid.details["problems"] = [
            {"input": name, "problem": text} for name, _, text in problems[:_REASONS]
        ]
    return invalid


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
