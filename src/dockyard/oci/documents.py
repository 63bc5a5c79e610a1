"""JSON documents of the image spec: one canonical way to write them, one strict way to read them.

Rules: keys sorted, no spaces, UTF-8, no final newline; so equal documents have equal digests.
Reading refuses what isn't JSON, duplicate keys and documents over MAX_SIZE.
"""

from __future__ import annotations

import json
from typing import Any

from dockyard.errors import ImageError

MAX_SIZE = 4 << 20  # distribution-spec "Pushing Manifests": 4 MiB is what registries must take


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of a JSON-able value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse(data: bytes | memoryview, *, where: str, most: int = MAX_SIZE) -> dict[str, Any]:
    """Read a JSON object of at most `most` bytes; raises ImageError naming `where`."""
    value = parse_any(data, where=where, most=most)
    if not isinstance(value, dict):
        raise ImageError("the document isn't a JSON object", where=where)
    return value


def parse_any(data: bytes | memoryview, *, where: str, most: int = MAX_SIZE) -> Any:
    """Read any JSON value; raises ImageError naming `where`."""
    if len(data) > most:
        raise ImageError(f"the document is larger than {most >> 20} MiB", where=where)
    try:
        return json.loads(bytes(data), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the document isn't valid JSON: {error}", where=where) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value
