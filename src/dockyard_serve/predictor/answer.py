"""A predictor's results as responses: JSON, a file, an image, or Server-Sent Events.

Rules: an image or file that is the whole result is sent as itself; inside of others it is a data
URL or base64. NaN and infinities are null, for JSON has neither. Events are `data:` lines of JSON,
and the last one is named `done`, or `error` with the message.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import enum
import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel

from dockyard_serve.errors import ModelFailed, ServeError
from dockyard_serve.http.message import Response
from dockyard_serve.marks import File
from dockyard_serve.predictor.values import image_class

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def result_response(result: Any) -> Response:
    """The response for one result; raises ModelFailed for what can't be written."""
    kind = image_class()
    if kind is not None and isinstance(result, kind):
        return Response(media_type="image/png", body=_png(result))
    if isinstance(result, File):
        headers = []
        if result.name:
            plain = "".join(c if c.isalnum() or c in "._- " else "_" for c in result.name)
            plain = plain.encode("ascii", "replace").decode().replace("?", "_")
            headers.append(("Content-Disposition", f'inline; filename="{plain}"'))
        return Response(media_type=result.media_type, headers=headers, body=result.data)
    if isinstance(result, bytes):
        return Response(media_type="application/octet-stream", body=result)
    return Response(body=to_json(result))


def to_json(value: Any) -> bytes:
    """A result in JSON; raises ModelFailed that names the type that has no form in it."""
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFailed(f"the model's result can't be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """What orjson can write, for what it can't."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="python")
    if isinstance(value, np.ndarray):
        return value.tolist()  # Not contiguous, or of a type that orjson doesn't know.
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, File):
            return _data_url(value.data, value.media_type)
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    kind = image_class()
    if kind is not None and isinstance(value, kind):
        return _data_url(_png(value), "image/png")
    if isinstance(value, set | frozenset | Mapping):
        return dict(value) if isinstance(value, Mapping) else sorted(value, key=str)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    if hasattr(value, "detach"):  # A PyTorch tensor.
        return value.detach().cpu().numpy().tolist()
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    raise TypeError(f"type {type(value).__name__} isn't known")


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def event_stream(items: AsyncGenerator[Any]) -> Response:
    """Results as Server-Sent Events (WHATWG HTML, 9.2)."""
    headers = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
    return Response(media_type="text/event-stream", headers=headers, body=_events(items))


async def _events(items: AsyncGenerator[Any]) -> AsyncIterator[bytes]:
    try:
        async with contextlib.aclosing(items) as closing:
            async for item in closing:
                yield b"data: " + to_json(item) + b"\n\n"
    except ServeError as error:
        yield b"event: error\ndata: " + orjson.dumps(error.body(), default=str) + b"\n\n"
        return
    yield b"event: done\ndata: {}\n\n"


def wants_json(accept: str) -> bool:
    """Whether a client asks for a list in one answer where events would be sent."""
    kinds = {item.partition(";")[0].strip().lower() for item in accept.split(",")}
    return "application/json" in kinds and "text/event-stream" not in kinds
