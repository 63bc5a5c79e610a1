"""Model files without code: a format is told from the file, and its framework loads it.

Rules:
- A framework is imported only by the module of its format, and only to load a model.
- What runs code when it is loaded is refused, with the name of what it would run, unless the
  operator says `trust`: also where it hides in a zip.
- Whatever goes wrong is a LoadError that says what to do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.kinds import Format, UnknownFormat, format_of
from dockyard_serve.formats.refusal import refusal

if TYPE_CHECKING:
    from dockyard_serve.model import Model, Source

__all__ = ["Format", "UnknownFormat", "format_of", "load_file"]


def load_file(source: Source) -> Model:
    """Load the model file or folder that `source.path` names.

    Options: `trust` (load formats that run code), `max_batch_size`, `device` ("auto", "cpu",
    "cuda"), `inputs` (of formats that don't say theirs). Raises LoadError.
    """
    assert source.path is not None
    where = str(source.path)
    try:
        kind = format_of(source.path)
    except UnknownFormat as error:
        raise LoadError(
            f"isn't a model that can be served: {error}",
            where=where,
            hint="Serve it by a Python class with `setup` and `predict`.",
        ) from None
    except OSError as error:
        raise LoadError(f"can't be read: {error.strerror or error}", where=where) from None
    if kind.executes and not source.options.get("trust"):
        raise refusal(kind, source.path)
    try:
        module = importlib.import_module(f"dockyard_serve.formats.{kind.name}")
        model: Model = module.load(source)
    except ImportError as error:
        packages = " ".join(item.partition(";")[0].strip() for item in kind.requirements)
        raise LoadError(
            f"is {kind.title}, and {error.name or error} isn't installed",
            where=where,
            hint=f"Install it: pip install {packages}",
        ) from error
    return model
