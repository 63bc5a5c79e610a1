"""`[lint]` of the configuration: which rules of `dockyard lint` count, and how much.

Rules: as in `config`. A rule is written as its id (DY101), its name, or the beginning of ids (DY2);
hadolint's and ShellCheck's ids may be silenced too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PlainValidator, Strict, WithJsonSchema

from dockyard.app import values
from dockyard.app.fields import ONE_OR_MORE, TABLE, Frozen, Once, One, nothing

_RULE = re.compile(r"(?:DY|DL|SC)[0-9]{0,4}|[a-z][a-z0-9]*(?:-[a-z0-9]+)+|syntax|unpinned")


def _rule(value: object) -> str:
    """The id of a rule, the beginning of one, or a name."""
    written = values.text(value).strip()
    if not _RULE.fullmatch(written):
        raise ValueError(
            f'{values.shown(value)} is no rule: write an id such as "DY101", the beginning of some '
            '("DY2"), or a name; `dockyard lint --rules` lists them'
        )
    return written


def _severity(value: object) -> Literal["error", "warning", "info"]:
    """How much findings of a rule weigh."""
    match value:
        case "error" | "warning" | "info":
            return value
    raise ValueError(f'must be "error", "warning" or "info", not {values.shown(value)}')


_Rules = Annotated[
    tuple[Annotated[str, PlainValidator(_rule)], ...], One, Once, WithJsonSchema(ONE_OR_MORE)
]


class LintConfig(BaseModel):
    """What `dockyard lint` looks for."""

    model_config = TABLE

    select: _Rules = Field((), description="Rules to run: ids, their beginnings or names. All.")
    ignore: _Rules = Field((), description="Rules to leave out, even when they are selected.")
    severity: Annotated[
        Mapping[
            Annotated[str, PlainValidator(_rule)],
            Annotated[Literal["error", "warning", "info"], PlainValidator(_severity)],
        ],
        Frozen,
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": {"enum": ["error", "warning", "info"]},
            }
        ),
    ] = Field(
        default_factory=nothing,
        description='How much findings weigh, by rule: `severity = { DY401 = "error" }`. Findings '
        "of severity error make `dockyard lint` exit with 1.",
    )
    hadolint: Annotated[bool, Strict()] = Field(
        True, description="Whether hadolint's findings are added where it is installed."
    )
