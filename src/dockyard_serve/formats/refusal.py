"""Why a model file isn't loaded: what it would run, said the same when it is built and served.

Rules: only the standard library is needed, since the builder judges files too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.pickles import (
    TENSOR_GLOBALS,
    UnreadablePickle,
    globals_of,
    pickles_in,
)

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard_serve.formats.kinds import Format


def refusal(kind: Format, path: Path) -> LoadError:
    """Why a format that runs code isn't loaded, with what the file would run if it can be told."""
    is_torch = kind.name == "torch_pickle"
    try:
        named = {name for _, data in pickles_in(path) for name in globals_of(data)}
    except UnreadablePickle:
        named = set()
    named -= TENSOR_GLOBALS
    if is_torch and not named:
        return weights_alone(path)
    shown = ", ".join(sorted(named)[:4]) + (" and more" if len(named) > 4 else "")
    better = "torch.export.save" if is_torch else "skops, or to ONNX"
    return LoadError(
        f"is {kind.title}: {kind.executes}{f' ({shown})' if named else ''}",
        where=str(path),
        hint="Only if you trust where it comes from: trust = true in [serve], or --trust. Better, "
        f"save it with {better}.",
    )


def weights_alone(path: Path) -> LoadError:
    """What to say of a file that holds weights and no network."""
    return LoadError(
        "holds weights alone, and not the network that they are for",
        where=str(path),
        hint="Export the network with them (torch.export.save), or write a class with `setup` and "
        "`predict` that loads them.",
    )
