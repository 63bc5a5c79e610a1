"""A decision and why it was taken: what detection hands on, and what a plan prints.

Rules: `why` is a phrase that completes "VALUE, because …" without a full stop; `where` is the
evidence, "app.py:12", relative to the project, or "".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Generic[T]):
    """A value, the reason for it, and where the evidence is."""

    value: T
    why: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.why} ({self.where})" if self.where else self.why
