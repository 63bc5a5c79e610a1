"""What PyTorch's zips would run or touch when they are loaded, and the refusal of it.

Rules:
- An exported program's pickles, at any depth of zips, may name plain tensors and nothing else.
- TorchScript's pickles are read by PyTorch's C++ reader, which imports no Python; but a module's
  code runs already while it is loaded (`__setstate__`), and two operators reach files.
- `trust` lifts both.
"""

from __future__ import annotations

import re
import zipfile
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

    from dockyard_serve.model import Source

# torch/csrc/jit/runtime/register_special_ops.cpp and native_functions.yaml: what touches files.
_TOUCHES_FILES = re.compile(rb"\b(?:torch|aten)\b[\w.:]*[.:](save|from_file)\b")
_CODE = re.compile(r"/(?:code/.*\.py|models/[^/]+\.json)$|serialized_exported_program\.json$")
_HINT = "Only if you trust where it comes from: trust = true in [serve], or --trust."


def refuse_foreign_pickles(source: Source) -> None:
    """Raise LoadError, with what would be run, if a pickle in the file names more than tensors."""
    assert source.path is not None
    if source.options.get("trust"):
        return
    found = _first_foreign(source.path)
    if found is not None:
        place, names = found
        shown = ", ".join(sorted(names)[:4]) + (" and more" if len(names) > 4 else "")
        raise LoadError(
            f"{place} would import {shown} when it is loaded, and can run any code",
            where=str(source.path),
            hint=f"{_HINT} Better, export the model without objects of your own.",
        )


def _first_foreign(path: Path) -> tuple[str, frozenset[str]] | None:
    try:
        for place, data in pickles_in(path):
            named = globals_of(data) - TENSOR_GLOBALS
            if named:
                return place, named
    except (UnreadablePickle, zipfile.BadZipFile) as error:
        raise LoadError(
            f"holds a pickle that can't be judged: {error}",
            where=str(path),
            hint="Save the model anew, with torch.export.save.",
        ) from error
    return None


def refuse_file_access(source: Source) -> None:
    """Raise LoadError if the model's code reads or writes files."""
    assert source.path is not None
    if source.options.get("trust"):
        return
    try:
        with zipfile.ZipFile(source.path) as archive:
            for name in archive.namelist():
                found = _CODE.search(name) and _TOUCHES_FILES.search(archive.read(name))
                if found:
                    raise LoadError(
                        f"{name} calls torch.{found[1].decode()}, which touches files",
                        where=str(source.path),
                        hint=_HINT,
                    )
    except zipfile.BadZipFile as error:
        raise LoadError(f"is a damaged zip: {error}", where=str(source.path)) from error
