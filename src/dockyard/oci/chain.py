"""Chains of layers: what two images share from the bottom.

Rules: a layer counts as shared only when all below it are (image-spec config.md, "Layer ChainID").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def shared_depth(layers: Sequence[str], known: Iterable[Sequence[str]]) -> int:
    """How many of the layers, diff IDs from the bottom, some known chain begins with."""
    depth = 0
    for chain in known:
        same = 0
        for mine, theirs in zip(layers, chain, strict=False):
            if mine != theirs:
                break
            same += 1
        depth = max(depth, same)
    return depth
