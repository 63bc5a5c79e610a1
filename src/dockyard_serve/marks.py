"""What a predictor's author writes: `@batched`, and `File` for any uploaded file.

Rules: only the standard library is imported, so that a predictor's module costs nothing to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

_Function = TypeVar("_Function", bound=Callable[..., Any])

BATCHED = "__dockyard_batched__"
DEFAULT_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a client sends, or that a predictor gives back.

    name: as the client calls it, which says nothing about its content; media_type: as the client
    says, or as the answer shall say.
    """

    data: bytes
    name: str = ""
    media_type: str = "application/octet-stream"


@overload
def batched(function: _Function) -> _Function: ...
@overload
def batched(*, max_size: int = DEFAULT_BATCH) -> Callable[[_Function], _Function]: ...
def batched(
    function: _Function | None = None, *, max_size: int = DEFAULT_BATCH
) -> _Function | Callable[[_Function], _Function]:
    """Mark `predict` as one that takes several requests at once.

    Every parameter is a list with one element for each request, and so is the result. Its elements
    are what one request sends and gets: `list[str]` is a string in a request. An element of the
    result that is an exception fails its own request alone.
    """
    if max_size < 1:
        raise ValueError("max_size must be at least 1")

    def mark(given: _Function) -> _Function:
        setattr(given, BATCHED, max_size)
        return given

    return mark if function is None else mark(function)
