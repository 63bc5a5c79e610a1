"""The words people write for a container's less usual parts: mounts, limits, restarts, health.

Rules: as in `spec`: what `docker run` accepts means here what it means there; a value that can't be
meant is refused with UsageError, which quotes it and says how it is written.
"""

from __future__ import annotations

import csv
import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from dockyard.engine.spec import Restart, Secret, Ulimit, Volume, parse_volume
from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.oci.config import Healthcheck

_SECRET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h|d))+\Z")
# The limits of setrlimit(2) that engines know.
_ULIMITS = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
]
_MOUNT_KEYS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}


def parse_mount(text: str, *, folder: Path | None = None) -> Volume | tuple[str, str]:
    """Parse "type=bind,source=./x,target=/y,readonly"; a tmpfs is its path and its options."""
    how = "Write type=bind|volume|tmpfs,source=…,target=/PATH[,readonly]."
    fields: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        key, equals, value = part.strip().partition("=")
        key = _MOUNT_KEYS.get(key.lower(), key.lower())
        if key in fields:
            raise UsageError(f"the mount {text!r} says {key} twice", hint=how)
        fields[key] = value if equals else "true"
    kind = fields.pop("type", "volume")
    target, source = fields.pop("target", ""), fields.pop("source", "")
    read_only = _parse_flag(fields.pop("readonly", "false"), text, how)
    if kind == "tmpfs":
        options = [f"size={fields.pop('tmpfs-size')}"] if "tmpfs-size" in fields else []
        options += [f"mode={fields.pop('tmpfs-mode')}"] if "tmpfs-mode" in fields else []
        options += ["ro"] if read_only else []
        _refuse_rest(fields, text, how)
        _check_target(target, text, how)
        if source:
            raise UsageError(f"the mount {text!r} has a source, but a tmpfs has none", hint=how)
        return target, ",".join(options)
    extra = (
        [fields.pop("bind-propagation")] if kind == "bind" and "bind-propagation" in fields else []
    )
    if kind == "volume" and _parse_flag(fields.pop("volume-nocopy", "false"), text, how):
        extra.append("nocopy")
    _refuse_rest(fields, text, how)
    if kind not in ("bind", "volume"):
        raise UsageError(f"the mount {text!r} has an unknown type {kind!r}", hint=how)
    _check_target(target, text, how)
    if kind == "bind":
        if not source:
            raise UsageError(f"the mount {text!r} has no source", hint=how)
        if not source.startswith(("/", ".", "~")):
            source = f"./{source}"
    elif "/" in source:
        raise UsageError(f"the mount {text!r} is of a folder", hint="Write type=bind for a folder.")
    options = [*(["ro"] if read_only else []), *extra]
    words = [source, target, ",".join(options)]
    return parse_volume(":".join(word for word in words if word), folder=folder)


def parse_restart(text: str) -> Restart:
    """Parse "no", "always", "unless-stopped", "on-failure" or "on-failure:3"."""
    policy, colon, count = text.partition(":")
    known = ("no", "always", "on-failure", "unless-stopped")
    retries = int(count) if count.isascii() and count.isdigit() else None
    if policy not in known or (colon and (policy != "on-failure" or retries is None)):
        raise UsageError(
            f"{text!r} is no way to restart", hint=f"Write one of {', '.join(known)}, on-failure:3."
        )
    named = cast("Literal['no', 'always', 'on-failure', 'unless-stopped']", policy)
    return Restart(policy=named, retries=retries)


def parse_ulimit(text: str) -> Ulimit:
    """Parse "nofile=1024:2048" (soft:hard), "nofile=1024", "core=-1"."""
    how = f"Write NAME=SOFT[:HARD]; names are {', '.join(_ULIMITS)}."
    name, _, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    numbers = [soft, hard if colon else soft]
    if name not in _ULIMITS or not all(re.match(r"(-1|\d+|unlimited)\Z", n) for n in numbers):
        raise UsageError(f"the limit {text!r} can't be understood", hint=how)
    lower, upper = (-1 if number == "unlimited" else int(number) for number in numbers)
    if upper != -1 and (lower == -1 or lower > upper):
        raise UsageError(f"the limit {text!r} has a soft value above the hard one", hint=how)
    return Ulimit(name=name, soft=lower, hard=upper)


def parse_secret(text: str, *, folder: Path | None = None) -> Secret:
    """Parse "NAME=FILE"; the file must be there."""
    name, equals, file = text.partition("=")
    if not equals or not file or not _SECRET.match(name):
        raise UsageError(
            f"the secret {text!r} can't be understood",
            hint="Write NAME=FILE; the container reads it at /run/secrets/NAME.",
        )
    path = (folder or Path.cwd()) / Path(file).expanduser()
    if not path.is_file():
        raise UsageError(f"the secret {name} has no file", where=str(path))
    return Secret(name=name, file=path)


def parse_duration(text: str) -> float:
    """Parse "30s", "1m30s", "500ms" into seconds; a bare number is seconds."""
    if re.match(r"\d+(\.\d+)?\Z", text):
        return float(text)
    if not _DURATION.match(text):
        raise UsageError(f"{text!r} is no duration", hint="Write it as 30s, 1m30s or 500ms.")
    parts = re.findall(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h|d)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_since(text: str, *, now: float | None = None) -> float:
    """Parse a time into Unix seconds: "10m" ago, "2024-05-01T12:00", "1714561200"."""
    if re.match(r"\d{9,}(\.\d+)?\Z", text):
        return float(text)
    try:
        # A time without a zone is this machine's.
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    try:
        ago = parse_duration(text)
    except UsageError:
        raise UsageError(
            f"{text!r} is no time", hint="Write how long ago (10m, 2h), or 2024-05-01T12:00."
        ) from None
    return (time.time() if now is None else now) - ago


def parse_health(
    *,
    command: str | None = None,
    interval: str | None = None,
    timeout: str | None = None,
    start_period: str | None = None,
    retries: int | None = None,
    none: bool = False,
) -> Healthcheck | None:
    """The health check that the options say; None where they say nothing."""
    from dockyard.oci.config import Healthcheck

    times = [
        0.0 if text is None else parse_duration(text) for text in (interval, timeout, start_period)
    ]
    if none:
        if command is not None:
            raise UsageError("--no-healthcheck and --health-cmd exclude each other")
        return Healthcheck(test=("NONE",))
    if command is None and not any(times) and retries is None:
        return None
    return Healthcheck(
        test=() if command is None else ("CMD-SHELL", command),
        interval=times[0],
        timeout=times[1],
        start_period=times[2],
        retries=retries or 0,
    )


def parse_labels(texts: Sequence[str]) -> Mapping[str, str]:
    """Parse "NAME=VALUE" or "NAME", which is empty."""
    labels = dict(text.partition("=")[::2] for text in texts)
    if "" in labels:
        raise UsageError("a label has no name", hint="Write NAME=VALUE.")
    return labels


def _parse_flag(value: str, text: str, how: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"the mount {text!r} says {value!r} where yes or no is asked", hint=how)
    return value.lower() in ("true", "1")


def _refuse_rest(fields: Mapping[str, str], text: str, how: str) -> None:
    if fields:
        raise UsageError(f"the mount {text!r} has an unknown part {next(iter(fields))!r}", hint=how)


def _check_target(target: str, text: str, how: str) -> None:
    if not target.startswith("/") or ".." in target.split("/") or ":" in target:
        raise UsageError(f"the mount {text!r} has no absolute path in the container", hint=how)
