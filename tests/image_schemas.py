"""The image specification's JSON schemas, to check documents against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

SCHEMAS = Path(__file__).parent / "oci" / "schemas"


def validate(name: Literal["config", "manifest", "index", "layout"], data: bytes) -> None:
    """Raise jsonschema.ValidationError unless a document fits its schema."""
    defs = json.loads((SCHEMAS / "defs.json").read_text())
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    resource = Resource.from_contents(defs, default_specification=DRAFT4)
    registry: Any = Registry().with_resources(
        [("https://opencontainers.org/schema/image/defs.json", resource), ("defs.json", resource)]
    )
    jsonschema.Draft4Validator(
        {**schema, "id": schema.pop("$id")},
        registry=registry,
        format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER,
    ).validate(json.loads(data))
