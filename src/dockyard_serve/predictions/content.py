"""How much of a body is kept: whole, a summary, a digest, or nothing; and what never is.

Rules: the result is JSON text that PostgreSQL's jsonb takes, or None. A body that is too large, or
isn't JSON, is summarised instead of kept; redacted fields are gone in every mode. A function of its
arguments, so that it can run on any thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from dockyard_serve.predictions.settings import Mode

# What Python's parser takes and jsonb refuses: NUL characters, NaN, infinities, lone surrogates.
_UNLIKED: tuple[bytes, ...] = (b"\\u0000", b"NaN", b"Infinity", b"\\ud", b"\\uD")
# The server has a parser that is several times as quick, and as strict as jsonb but for NUL; apps
# with the two lines may not have it.
_parse: Callable[[bytes], Any] = json.loads
with contextlib.suppress(ImportError):
    import orjson

    _parse, _UNLIKED = orjson.loads, _UNLIKED[:1]

REDACTED = "[redacted]"
_MOST_FIELDS = 64
_SHORT = 64  # Characters of a string that a summary keeps whole.


def kept(
    body: bytes, media_type: str, mode: Mode, *, max_bytes: int, redact: Sequence[str] = ()
) -> str | None:
    """What is kept of a body; media_type: as the header has it."""
    if mode == "none" or not body:
        return None
    if mode == "digest":
        return _digest(body, media_type)
    # What curl calls a form, unless it is told otherwise, is mostly JSON.
    may_be_json = "json" in media_type or "x-www-form-urlencoded" in media_type
    if not may_be_json and media_type:
        return _digest(body, media_type)
    if mode == "whole" and len(body) <= max_bytes and not redact and not _is_odd(body):
        text = _whole(body)
        if text is not None:
            return text
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _digest(body, media_type)
    if redact:
        value = _redacted(value, frozenset(redact), "")
    if mode == "whole":
        text = json.dumps(_liked(value), separators=(",", ":"))
        if len(text) <= max_bytes:
            return text
    return json.dumps({"$summary": _summary(_liked(value)), "$bytes": len(body)})


def _whole(body: bytes) -> str | None:
    """The body as it is, if it is one JSON value; parsed to know, and not written anew."""
    try:
        _parse(body)
        return body.decode("utf-8").strip()
    except (ValueError, RecursionError):
        return None


def _is_odd(body: bytes) -> bool:
    return any(part in body for part in _UNLIKED) or body[:3] == b"\xef\xbb\xbf"


def _digest(body: bytes, media_type: str) -> str:
    digest = hashlib.sha256(body).hexdigest()
    return json.dumps({"$sha256": digest, "$bytes": len(body), "$type": media_type[:80]})


def _liked(value: Any) -> Any:
    """The value with what jsonb refuses replaced: numbers that are none, NULs, lone surrogates."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_liked(item) for item in value]
    if isinstance(value, dict):
        return {_liked(key): _liked(item) for key, item in value.items()}
    return value


def _redacted(value: Any, names: frozenset[str], path: str) -> Any:
    if isinstance(value, list):
        return [_redacted(item, names, path) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        inner = f"{path}.{key}" if path else key
        hidden = key in names or inner in names
        found[key] = REDACTED if hidden else _redacted(item, names, inner)
    return found


def _summary(value: Any) -> Any:
    """Shape and spread of arrays of numbers, lengths of long strings, everything else as it is."""
    if isinstance(value, str):
        return value if len(value) <= _SHORT else {"$string": len(value)}
    if isinstance(value, dict):
        shown = dict(list(value.items())[:_MOST_FIELDS])
        found = {key: _summary(item) for key, item in shown.items()}
        more = len(value) - len(shown)
        return found | ({"$more": more} if more else {})
    if not isinstance(value, list):
        return value
    shape, numbers = _numbers(value)
    if numbers:
        mean = math.fsum(numbers) / len(numbers)
        spread = {"min": min(numbers), "max": max(numbers), "mean": round(mean, 6)}
        return {"$shape": shape, **spread}
    return {"$length": len(value), "$first": _summary(value[0])} if value else []


def _numbers(value: list[Any]) -> tuple[list[int], list[float]]:
    """The shape and the flat content of nested lists of numbers; ([], []) if they aren't that."""
    shape, level = [], value
    flat: list[Any] = [value]
    while isinstance(level, list):
        if not level or any(not isinstance(item, list) or len(item) != len(level) for item in flat):
            return [], []
        shape.append(len(level))
        flat = [inner for item in flat for inner in item]
        level = flat[0]
    numeric = all(type(item) in (int, float) for item in flat)
    return (shape, flat) if numeric else ([], [])
