"""Dockyard's own server on its way into an image: its files, and what it needs to run.

Rules:
- The files are those of the package `dockyard_serve` that is installed beside this one, so an image
  has the server of the Dockyard that built it.
- What it needs is written once, as extras of this distribution: `serve` for all, `predictor` for
  Python classes. Nothing in it has an upper bound, and what the project pins is never moved.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from dockyard.errors import BuildError
from dockyard.files import FileEntry, SliceSource, file_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.app.detect import Detected

_DISTRIBUTION = "dockyard"


def has_server(detected: Detected) -> bool:
    """Whether Dockyard's server goes into the image: it serves, or the code imports it."""
    return detected.serving is not None or "dockyard_serve" in detected.imports


def server_requirements(detected: Detected, *, database: bool = False) -> tuple[str, ...]:
    """What the server and the served model need that the project doesn't name; sorted.

    database: whether predictions are logged to one.
    """
    serving = detected.serving
    log = _extra("log") if database or "dockyard_serve" in detected.imports else []
    if serving is None:
        return tuple(sorted(log)) if has_server(detected) else ()
    source = detected.dependencies.value
    extras = ("serve", "predictor") if serving.kind == "class" else ("serve",)
    wanted = {*extra_requirements(*extras), *log, *serving.requirements(source)}
    return tuple(sorted(wanted))


def extra_requirements(*names: str) -> list[str]:
    """The requirements of extras of this distribution, as Linux needs them."""
    return [text for name in names for text in _extra(name)]


def _extra(name: str) -> list[str]:
    try:
        declared = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise BuildError(
            "this Dockyard isn't installed, so what its server needs isn't known",
            hint="Install it: pip install dockyard, or `pip install -e .` in its repository.",
        ) from error
    found = []
    for text in declared:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or "extra" not in str(marker):
            continue
        if marker.evaluate({"extra": name, "sys_platform": "linux"}):
            requirement.marker = None
            found.append(str(requirement))
    return found


def server_entries(python: str) -> tuple[FileEntry, ...]:
    """The server's modules where the image's Python imports them; python: "3.11"."""
    site = f"opt/venv/lib/python{python}/site-packages"
    folder = _folder()
    return tuple(
        file_entry(
            f"{site}/dockyard_serve/{path.relative_to(folder).as_posix()}",
            SliceSource(path, path.stat().st_size),
        )
        for path in _files(folder)
    )


def server_modules(detected: Detected) -> tuple[str, ...]:
    """The server's modules that it imports by names which no source says: the formats'."""
    serving = detected.serving
    if serving is None:
        return ()
    loads = [f"formats.{each.name}" for each in serving.formats] or ["predictor"]
    return ("dockyard_serve.__main__", *(f"dockyard_serve.{name}" for name in loads))


def server_digest(entries: Sequence[FileEntry]) -> str:
    """SHA-256 (hexadecimal) of paths and contents, for keys of what is made from them."""
    total = hashlib.sha256()
    for entry in entries:
        total.update(f"{entry.path}\0{entry.size}\0".encode())
        for chunk in entry.source.chunks() if entry.source is not None else ():
            total.update(chunk)
    return total.hexdigest()


def _folder() -> Path:
    import dockyard_serve

    assert dockyard_serve.__file__ is not None
    return Path(dockyard_serve.__file__).parent


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
