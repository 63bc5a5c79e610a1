"""The `[serve]` table of the configuration: what Dockyard's own server serves, and how.

Rules: as in `config`: None means "not said", and is left to detection or to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field, PlainValidator, Strict, WithJsonSchema

from dockyard.app import values
from dockyard.app.fields import STRING, TABLE, Frozen, nothing

_Count = Annotated[
    int | None,
    PlainValidator(values.count),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65536}),
]
_Time = Annotated[
    timedelta | None,
    PlainValidator(values.duration),
    WithJsonSchema({"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"}),
]


class ServeConfig(BaseModel):
    """What Dockyard's own server serves, and how."""

    model_config = TABLE

    model: Annotated[str | None, PlainValidator(values.serve_target), WithJsonSchema(STRING)] = (
        Field(
            None,
            description="What is served: a model file or folder in the project, or a Python class, "
            '"predictor:Predictor". By default the one model file, or the one class named '
            "…Predictor, that is found.",
        )
    )
    name: Annotated[str | None, PlainValidator(values.model_name), WithJsonSchema(STRING)] = Field(
        None, description="The model's name in URLs. By default the file's or the class's."
    )
    trust: Annotated[bool, Strict()] = Field(
        False,
        description="Load formats that run code when they are loaded, such as pickles: whoever "
        "made the file can then do in the container what they like.",
    )
    workers: _Count = Field(None, description="Processes on the port. By default 1.")
    max_batch_size: _Count = Field(
        None,
        description="Most rows that go into the model at once. By default what the model says, "
        "else 64.",
    )
    max_delay: _Time = Field(
        None,
        description="Time to wait for more requests before a batch starts. By default none: what "
        "came while the model was busy is the next batch.",
    )
    timeout: _Time = Field(None, description="Time after which a request is answered with 504.")
    device: Annotated[str | None, PlainValidator(values.text), WithJsonSchema(STRING)] = Field(
        None, description='"cpu" or "cuda". By default CUDA where there is any.'
    )
    inputs: Annotated[
        Mapping[str, str],
        Frozen,
        WithJsonSchema({"type": "object", "additionalProperties": STRING}),
    ] = Field(
        default_factory=nothing,
        description="Inputs of models that don't say theirs, such as scripted TorchScript: "
        '{ image = "FP32 [-1, 1, 8, 8]" }.',
    )

    @property
    def file(self) -> str | None:
        """The file or folder that `model` names; None if it names a class, or nothing."""
        return self.model if self.model is not None and ":" not in self.model else None
