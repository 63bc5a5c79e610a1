"""pip's configuration files and variables, read as pip reads them.

Rules (pip's documentation, "Configuration"):
- Order, later wins key by key: global, user, site, the file that PIP_CONFIG_FILE names, then
  PIP_* variables. PIP_CONFIG_FILE=/dev/null turns all files off; an existing file there turns
  the user's off.
- Within one file [install] wins over [global]. Keys may be written with "_" or "-".
- Values of options that may be repeated are split at blanks.
"""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECTIONS = ("global", "install")
_ALIASES = {"pypi-url": "index-url", "default-timeout": "timeout"}


def pip_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the configuration files that pip would read, in the order it reads them."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    files = [*_global_files(environ)]
    if not (named and Path(named).exists()):
        files += [home / ".pip" / "pip.conf", _user_folder(environ, home) / "pip.conf"]
    files.append(Path(environ.get("VIRTUAL_ENV") or sys.prefix) / "pip.conf")
    if named:
        files.append(Path(named))
    return [file for file in files if file.is_file()]


def read_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings for `pip install`, one raw value per key, spelt with dashes.

    Raises ResolveError for a file that can't be read or parsed.
    """
    settings: dict[str, str] = {}
    for file in pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            line = getattr(error, "lineno", None)
            raise ResolveError(
                f"pip's configuration can't be read: {type(error).__name__}",
                where=str(file) if line is None else f"{file}:{line}",
                hint="Mend the file, or set PIP_CONFIG_FILE=/dev/null to do without.",
            ) from error
        for section in _SECTIONS:
            if parser.has_section(section):
                settings |= {_key(key): value for key, value in parser.items(section)}
    settings |= {
        _key(name[4:]): value
        for name, value in environ.items()
        if name.startswith("PIP_") and name not in ("PIP_CONFIG_FILE",) and value
    }
    return settings


def _key(name: str) -> str:
    name = name.lower().replace("_", "-").removeprefix("--")
    return _ALIASES.get(name, name)


def _global_files(environ: Mapping[str, str]) -> list[Path]:
    if sys.platform == "darwin":
        return [Path("/Library/Application Support/pip/pip.conf")]
    folders = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    return [
        *(Path(folder) / "pip" / "pip.conf" for folder in folders if folder),
        Path("/etc/pip.conf"),
    ]


def _user_folder(environ: Mapping[str, str], home: Path) -> Path:
    if sys.platform == "darwin":
        library = home / "Library" / "Application Support" / "pip"
        if library.is_dir():
            return library
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
