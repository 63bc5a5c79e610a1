"""Rates from two looks at a container's usage.

Rules: pure; what the engine can't tell is None, never a zero that looks like an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockyard.engine.state import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a container uses now; cpu: cores, 1.0 is one of them; the others: bytes a second."""

    cpu: float | None = None
    network_received: float | None = None
    network_sent: float | None = None
    block_read: float | None = None
    block_written: float | None = None


def rates(before: Usage, after: Usage) -> Rates:
    """What was used between two looks, by the second; a restart in between counts from zero."""
    seconds = after.at - before.at

    def rate(old: float | None, new: float | None) -> float | None:
        if old is None or new is None or seconds <= 0:
            return None
        return (new - old if new >= old else new) / seconds

    return Rates(
        cpu=rate(before.cpu, after.cpu),
        network_received=rate(before.network_received, after.network_received),
        network_sent=rate(before.network_sent, after.network_sent),
        block_read=rate(before.block_read, after.block_read),
        block_written=rate(before.block_written, after.block_written),
    )
