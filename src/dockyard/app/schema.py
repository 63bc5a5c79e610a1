"""The configuration's JSON Schema (draft 2020-12) for editors, and the reference table of it.

Rules: made from the model in `config`, so that neither can lag behind; sorted, so that the copies
in docs/ change only when a setting does.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, WithJsonSchema

from dockyard.app.config import AppConfig, HealthcheckConfig
from dockyard.app.lint_config import LintConfig
from dockyard.app.serve_config import ServeConfig
from dockyard.app.stack_config import StackConfig
from dockyard.app.values import duration_text

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_ID = "dockyard.schema.json"
_TABLES: dict[str, type[BaseModel]] = {
    "HealthcheckConfig": HealthcheckConfig,
    "LintConfig": LintConfig,
    "ServeConfig": ServeConfig,
    "StackConfig": StackConfig,
}


def json_schema() -> dict[str, Any]:
    """Return the schema of dockyard.toml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID,
        "title": "dockyard.toml",
        "description": "How Dockyard makes an image of this project.",
        **_table(AppConfig),
        "$defs": {name: _table(model) for name, model in _TABLES.items()},
    }


def _table(model: type[BaseModel]) -> dict[str, Any]:
    properties = {str(info.alias): _property(info) for info in model.model_fields.values()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(info: FieldInfo) -> dict[str, Any]:
    """One key: its description, its kind as `config` declares it, its default if it has one."""
    result: dict[str, Any] = {"description": info.description}
    declared = [item for item in info.metadata if isinstance(item, WithJsonSchema)]
    if declared:
        result |= declared[-1].json_schema or {}
    elif info.annotation is bool:
        result["type"] = "boolean"
    else:
        result["enum"] = list(get_args(info.annotation))
    default = info.default
    if isinstance(default, timedelta):
        default = duration_text(default)
    if isinstance(default, bool | str | int):
        result["default"] = default
    elif isinstance(default, tuple) and default:
        result["default"] = list(default)
    return result


def schema_text() -> str:
    """Return the schema as it is printed and kept in docs/."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def reference_table() -> str:
    """Return the Markdown table of every setting, with its default and meaning."""
    schema = json_schema()
    rows = [*schema["properties"].items()]
    tables = {
        "healthcheck": "HealthcheckConfig",
        "lint": "LintConfig",
        "serve": "ServeConfig",
        "stack": "StackConfig",
    }
    for table, name in tables.items():
        inner = schema["$defs"][name]["properties"]
        rows += [(f"{table}.{key}", value) for key, value in inner.items()]
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in rows:
        default = f"`{_toml(value['default'])}`" if "default" in value else ""
        meaning = value["description"].replace("|", "\\|")
        lines.append(f"| `{key}` | {_kind(value)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _kind(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return "table"
    if "enum" in value:
        return " or ".join(f"`{_toml(item)}`" for item in value["enum"])
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(item) for item in value["anyOf"]))
    kind = value.get("type", "")
    if kind == "array":
        return "list of " + " or ".join(f"{kind}s" for kind in _kind(value["items"]).split(" or "))
    if kind == "object":
        return "table"
    return {"boolean": "true or false", "integer": "number"}.get(kind, str(kind))
