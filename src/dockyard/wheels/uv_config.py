"""What uv's own configuration says of indexes, so that pip's isn't forced on top of it.

Rules (uv's documentation, "Configuration files"): uv.toml or [tool.uv] in pyproject.toml of the
nearest folder upwards, the user's uv.toml, the system's, and UV_* variables. uv reads them
itself; here only the kinds of setting they hold are looked at.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEFAULT = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_EXTRA = ("UV_INDEX", "UV_EXTRA_INDEX_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class UvConfig:
    """Which kinds of index setting uv has of its own.

    urls: index URLs in uv's configuration, with their credentials; files: what was read.
    """

    default_index: bool = False
    extra_index: bool = False
    find_links: bool = False
    index_strategy: bool = False
    urls: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"UvConfig(files={self.files})"


def read_uv(environ: Mapping[str, str], folder: Path) -> UvConfig:
    """Look at uv's configuration as uv would find it from `folder`.

    A file that can't be parsed is left to uv, whose message is better.
    """
    default = any(environ.get(name) for name in _DEFAULT)
    extra = any(environ.get(name) for name in _EXTRA)
    links = bool(environ.get("UV_FIND_LINKS"))
    strategy = bool(environ.get("UV_INDEX_STRATEGY"))
    urls = [
        word.partition("=")[2] if "=" in word.partition("://")[0] else word
        for name in (*_DEFAULT, *_EXTRA)
        for word in environ.get(name, "").split()
    ]
    files = []
    for file, table in _tables(environ, folder):
        files.append(file)
        pip = table.get("pip")
        for part in (table, pip if isinstance(pip, dict) else {}):
            indexes = [index for index in _list(part.get("index")) if isinstance(index, dict)]
            default |= "index-url" in part or any(index.get("default") for index in indexes)
            extra |= "extra-index-url" in part or any(not i.get("default") for i in indexes)
            links |= "find-links" in part
            strategy |= "index-strategy" in part
            urls += [_with_variables(environ, index) for index in indexes]
            urls += [str(part["index-url"])] if "index-url" in part else []
            urls += [str(url) for url in _list(part.get("extra-index-url"))]
    return UvConfig(
        default_index=default,
        extra_index=extra,
        find_links=links,
        index_strategy=strategy,
        urls=tuple(url for url in urls if url),
        files=tuple(files),
    )


def _with_variables(environ: Mapping[str, str], index: Mapping[str, Any]) -> str:
    """The index's URL, with what UV_INDEX_<NAME>_USERNAME and _PASSWORD say."""
    url = str(index.get("url", ""))
    name = "".join(c if c.isalnum() else "_" for c in str(index.get("name", ""))).upper()
    user = environ.get(f"UV_INDEX_{name}_USERNAME")
    password = environ.get(f"UV_INDEX_{name}_PASSWORD")
    parts = urlsplit(url)
    if not name or not (user or password) or "@" in parts.netloc:
        return url
    userinfo = f"{quote(user or '', safe='')}:{quote(password or '', safe='')}"
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))


def _tables(environ: Mapping[str, str], folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    if named := environ.get("UV_CONFIG_FILE"):
        yield from _parsed(Path(named), ())
        return
    for parent in (folder, *folder.parents):
        found = list(_parsed(parent / "uv.toml", ()))
        found = found or list(_parsed(parent / "pyproject.toml", ("tool", "uv")))
        if found:
            yield from found
            break
    home = Path(environ.get("HOME") or Path.home())
    yield from _parsed(Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml", ())
    for system in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield from _parsed(Path(system) / "uv" / "uv.toml", ())
    yield from _parsed(Path("/etc/uv/uv.toml"), ())


def _parsed(file: Path, keys: tuple[str, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    if isinstance(table, dict):
        yield file, table


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
