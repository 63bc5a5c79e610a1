"""Files of environment variables, read as `docker run --env-file` reads them.

Rules (docker/cli opts/file.go): UTF-8, a leading byte-order mark is dropped; leading white space
of a line is dropped, trailing is kept; lines that are then empty or begin with "#" are skipped;
everything after the first "=" is the value, as it stands: no quotes, no escapes, no expansion. A
name alone takes its value from the caller's environment, or is left out where that has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.app.values import env_name
from dockyard.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_SIZE = 1 << 20


def parse_env_file(data: bytes, *, where: str, host: Mapping[str, str] | None) -> dict[str, str]:
    """Return the variables of an env file; raises ConfigError with the line.

    host: where a name without "=" takes its value; None (an image is being made, which may not
    depend on the machine) makes such a line an error.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = data[: error.start].count(b"\n") + 1
        raise ConfigError("the line isn't UTF-8", where=f"{where}:{bad}") from None
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        place = f"{where}:{number}"
        try:
            env_name(name)
        except ValueError as error:
            raise ConfigError(
                f"{error}", where=place, hint="A line of an env file is NAME=value, without spaces."
            ) from None
        if "\0" in value:
            raise ConfigError(f"the value of {name} holds a NUL character", where=place)
        if equals:
            found[name] = value
        elif host is None:
            raise ConfigError(
                f"{name} has no value",
                where=place,
                hint="An image can't take it from this machine: write NAME=value, or give the file "
                "to `dockyard run --env-file`.",
            )
        elif name in host:
            found[name] = host[name]
    return found


def read_env_file(
    path: Path, *, where: str | None = None, host: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Read an env file from disk; raises ConfigError when it can't be read or is wrong."""
    where = where or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(
            f"the env file can't be read: {error.strerror or error}", where=where
        ) from None
    if len(data) > _MAX_SIZE:
        raise ConfigError("the env file is larger than 1 MiB", where=where)
    return parse_env_file(data, where=where, host=host)
