"""The kinds of fields that tables of the configuration are made of, for pydantic.

Rules: what a value may be is decided in `values`; here it is only wrapped: a parser, the forms that
stand for it, and its kind in the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainValidator, WithJsonSchema

from dockyard.app import values

STRING = {"type": "string"}
STRINGS = {"type": "array", "items": STRING}
ONE_OR_MORE = {"anyOf": [STRING, STRINGS]}
_DURATION = {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"}

TABLE = ConfigDict(
    frozen=True,
    extra="forbid",
    alias_generator=lambda name: name.replace("_", "-"),
    validate_by_alias=True,
    validate_by_name=False,
)
"""How every table is read: frozen, no unknown keys, dashes in names."""


def _listed(value: object) -> object:
    """One item where a list is expected stands for the list of it."""
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


def _unique(items: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))


def _frozen(items: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(items))


def nothing() -> Mapping[str, Any]:
    """A table without keys."""
    return MappingProxyType({})


One = BeforeValidator(_listed)
Once = AfterValidator(_unique)
Frozen = AfterValidator(_frozen)
Names = tuple[Annotated[str, PlainValidator(values.package_name)], ...]
Command = Annotated[
    tuple[str, ...] | None, PlainValidator(values.command), WithJsonSchema(ONE_OR_MORE)
]
Patterns = Annotated[
    tuple[Annotated[str, PlainValidator(values.pattern)], ...],
    One,
    WithJsonSchema(ONE_OR_MORE),
]
Duration = Annotated[timedelta, PlainValidator(values.duration), WithJsonSchema(_DURATION)]
Variables = Annotated[
    Mapping[
        Annotated[str, PlainValidator(values.env_name)],
        Annotated[str, PlainValidator(values.env_value)],
    ],
    Frozen,
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer"]}}),
]
