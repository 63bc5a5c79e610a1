"""The server's command line and environment: `python -m dockyard_serve MODEL [options]`.

Rules: each option has a variable of the same name (`--max-delay`, DOCKYARD_MAX_DELAY); the command
line wins. Durations are written as `500ms`, `1m30s`, or a number of seconds; sizes as `64M`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dockyard_serve.http.connection import Limits
from dockyard_serve.logs import log_dir_from_environment
from dockyard_serve.settings import QueueSettings, ServerSettings

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_SIZE = re.compile(r"(\d+)([KMG]?)B?", re.IGNORECASE)
_PREFIX = "DOCKYARD_"


def duration(text: str) -> float:
    """Seconds of a duration; raises ArgumentTypeError."""
    match = _DURATION.fullmatch(text)
    if match is not None and text:
        hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a duration such as 500ms, 30s, 1m30s")
    return value


def size(text: str) -> int:
    """Bytes of a size; raises ArgumentTypeError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a size such as 64M")
    return int(match[1]) << 10 * " KMG".index(match[2].upper() or " ")


def count(text: str) -> int:
    """A whole number from 1; raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """A port; raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a port")
    return int(text)


def tensor(text: str) -> tuple[str, str]:
    """`NAME=FP32 [-1, 8]`; raises ArgumentTypeError."""
    name, equals, spec = text.partition("=")
    if not name or not equals or not spec:
        raise argparse.ArgumentTypeError(f"{text!r} isn't written as NAME=DATATYPE [SHAPE]")
    return name.strip(), spec.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockyard_serve",
        description="Serve models over HTTP: /predict, /v2 (Open Inference Protocol), /docs.",
        epilog="Each option can be given as a variable too: --max-delay is DOCKYARD_MAX_DELAY.",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="a file, a folder of models, or module:Class")
    add("--name", help="the model's name in URLs")
    add("--host", default="0.0.0.0", help="address to listen on (%(default)s)")  # noqa: S104
    add("--port", type=port, default=8000, help="port of HTTP (%(default)s)")
    add("--workers", type=count, default=1, help="processes (%(default)s)")
    add("--threads", type=count, help="threads of one model call; by default what the quota gives")
    add("--max-batch-size", type=count, help="rows in one call; by default what the model says")
    add("--max-delay", type=duration, default=0.0, help="wait for more requests; 0 by default")
    add("--max-queue", type=count, default=512, help="requests that may wait (%(default)s)")
    add("--timeout", type=duration, default=30.0, help="then a request gets 504 (30s)")
    add("--grace", type=duration, default=25.0, help="to answer what is in flight at the end (25s)")
    add("--max-body", type=size, default=Limits().body, help="largest request (64M)")
    add("--poll", type=duration, help="look for new versions in the folder this often")
    add("--api-key", action="append", help="ask for this key (Authorization: Bearer); repeatable")
    add("--cors", action="append", metavar="ORIGIN", help="let pages of this origin ask; or *")
    add("--access-log", action="store_true", help="log every request")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    add("--device", help="cpu or cuda")
    add("--trust", action="store_true", help="load formats that run code, such as pickles")
    add("--input", type=tensor, action="append", metavar="NAME=SPEC", help="of models without")
    return parser


def read_options(
    arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[ServerSettings, str]:
    """The settings and the log level; exits with 2 and a usage message if they are wrong."""
    parser = _parser()
    words: list[str] = []
    for action in parser._actions:
        value = environment.get(_PREFIX + action.dest.upper(), "")
        if not action.option_strings or not value or action.dest == "help":
            continue
        flag = action.option_strings[-1]
        if action.nargs == 0:
            words += [flag] if value.lower() not in {"0", "false", "no"} else []
        elif isinstance(action, argparse._AppendAction):
            words += [word for part in value.split(",") for word in (flag, part.strip())]
        else:
            words += [flag, value]
    given = parser.parse_args([*words, *arguments])
    model = given.model or environment.get(_PREFIX + "MODEL")
    if not model:
        parser.error("name what to serve: a file, a folder of models, or module:Class")
    options: dict[str, Any] = {"trust": given.trust}
    if given.device:
        options["device"] = given.device
    if given.input:
        options["inputs"] = dict(given.input)
    if given.max_batch_size is not None:
        options["max_batch_size"] = given.max_batch_size
    settings = ServerSettings(
        model=model,
        name=given.name,
        host=given.host,
        port=given.port,
        workers=given.workers,
        threads=given.threads,
        grace=given.grace,
        poll=given.poll,
        queue=QueueSettings(
            max_batch_size=given.max_batch_size,
            max_delay=given.max_delay,
            max_queue=given.max_queue,
            timeout=given.timeout,
        ),
        limits=Limits(body=given.max_body),
        api_keys=tuple(given.api_key or ()),
        cors_origins=tuple(given.cors or ()),
        access_log=given.access_log,
        log_dir=log_dir_from_environment(),
        options=options,
    )
    return settings, given.log_level
