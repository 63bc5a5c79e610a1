"""The Python environment on top of another image: a venv that sees what the base has.

Rules:
- The base's packages are seen after the venv's own, so that a wheel of the project goes before
  another version in the base. A base that has only pip and its like isn't looked into.
- Their commands (`torchrun`, `uvicorn`) are written anew into the venv: the base's start the
  base's Python, which doesn't see the project's packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.files import file_entry
from dockyard.wheels.scripts import EntryPoint, script_text
from dockyard.wheels.venv import Venv, venv_entries

if TYPE_CHECKING:
    from collections.abc import Collection

    from dockyard.build.foundation import ImageFoundation
    from dockyard.files import FileEntry


def image_venv(foundation: ImageFoundation, wheels: Collection[str]) -> list[FileEntry]:
    """The entries of /opt/venv before the wheels; wheels: names, whose own commands are theirs."""
    packages = foundation.packages
    venv = Venv(python=foundation.python)
    apart = [site for site in packages.sites if not site.startswith(f"{venv.root}/")]
    entries = venv_entries(
        venv,
        base_python=foundation.interpreter,
        version=packages.version,
        system_site=bool(apart) and bool(packages.distributions),
    )
    for name, (owner, value) in packages.scripts.items():
        if owner in wheels:
            continue
        path = f"{venv.bin}/{name}"
        text = script_text(EntryPoint(name=name, value=value), venv.interpreter, where=path)
        entries.append(file_entry(path, text, executable=True))
    return entries
