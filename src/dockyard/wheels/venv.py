"""The Python environment of an image: where things go, and the few files that make it one.

Rules:
- It is a real venv, as `python -m venv --without-pip` makes it (PEP 405): the interpreter finds
  `pyvenv.cfg` beside its folder, so `sys.prefix`, `site-packages` and `.pth` files behave as
  everywhere, also with Debian's python3.X, whose own default scheme would look in /usr/local.
- No activate scripts: they only prepend `bin` to PATH for a person's shell, which the image's
  configuration does for every process.
- The path is the same in every image, so that scripts and layers are too.
- On a base with packages of its own they are seen too, after the venv's: Python's own switch for
  that (include-system-site-packages) adds the folders that the base's interpreter would search.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.files import FileEntry, directory_entry, file_entry, symlink_entry

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """A venv at `root` (no leading slash, like all image paths) for Python `python` ("3.11")."""

    root: str = "opt/venv"
    python: str = "3.11"

    @property
    def bin(self) -> str:
        """The folder of scripts."""
        return f"{self.root}/bin"

    @property
    def lib(self) -> str:
        """The folder of the interpreter's version below lib."""
        return f"{self.root}/lib/python{self.python}"

    @property
    def site_packages(self) -> str:
        """The one site-packages: purelib and platlib are the same folder in a venv."""
        return f"{self.lib}/site-packages"

    @property
    def interpreter(self) -> str:
        """The absolute path of the interpreter, as scripts name it."""
        return f"/{self.bin}/python"

    @property
    def own_paths(self) -> frozenset[str]:
        """The paths that make this a venv; nothing that is installed may replace them."""
        major = self.python.partition(".")[0]
        links = (f"{self.bin}/python{suffix}" for suffix in ("", major, self.python))
        return frozenset((f"{self.root}/pyvenv.cfg", f"{self.root}/lib64", *links))

    def schemes(self, name: str) -> Mapping[str, str]:
        """Return the folder for each install scheme; `name` is the distribution's.

        As pip has them in a venv: headers lie below include/site, one folder per distribution.
        """
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "headers": f"{self.root}/include/site/python{self.python}/{name}",
            "scripts": self.bin,
            "data": self.root,
        }


def venv_entries(
    venv: Venv,
    *,
    base_python: str | None = None,
    version: str | None = None,
    system_site: bool = False,
) -> list[FileEntry]:
    """Return the entries of an empty venv.

    base_python: the interpreter it belongs to, by default `usr/bin/python3.X`; version: that
    interpreter's full version ("3.11.2") where known. Only tools read it, and they take "3.11" too.
    system_site: whether the base's own packages are seen.
    """
    base = "/" + (base_python or f"usr/bin/python{venv.python}").lstrip("/")
    major = venv.python.partition(".")[0]
    config = (
        f"home = {posixpath.dirname(base)}\n"
        f"include-system-site-packages = {str(system_site).lower()}\n"
        f"version = {version or venv.python}\n"
        f"executable = {base}\n"
    )
    entries = [
        directory_entry(venv.root),
        file_entry(f"{venv.root}/pyvenv.cfg", config.encode()),
        directory_entry(venv.bin),
        symlink_entry(f"{venv.bin}/python", base),
        symlink_entry(f"{venv.bin}/python{venv.python}", "python"),
        directory_entry(venv.site_packages),
        # `python -m venv` makes it on every 64-bit Linux; some `.data` schemes write below it.
        symlink_entry(f"{venv.root}/lib64", "lib"),
    ]
    if major != venv.python:
        entries.append(symlink_entry(f"{venv.bin}/python{major}", "python"))
    return entries
