"""One logged prediction, and the line it is in the spool: PostgreSQL's own COPY text format.

Rules: a line is written once and goes to the database as it is, so that nothing is parsed or
formatted twice. Its first columns are the time, the writer and the sequence; sequences of a writer
rise by one from 1. https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

COLUMNS = (
    *("time", "writer", "sequence", "request_id", "model", "version", "path", "status"),
    *("latency_ms", "stages", "batch_rows", "inputs", "outputs", "client"),
)

_NULL = b"\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": None})
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}


@dataclass(slots=True, kw_only=True)
class Record:
    """A request and its answer.

    time: Unix seconds when it came; latency_ms: until the answer was complete; stages: milliseconds
    by stage (queue, inference…); batch_rows: rows of the model call that answered it; inputs,
    outputs: JSON text, as `content` makes it, or bodies that are still to be made so.
    """

    time: float
    request_id: str
    status: int
    latency_ms: float
    model: str | None = None
    version: str | None = None
    path: str | None = None
    stages: Mapping[str, float] | None = None
    batch_rows: int | None = None
    inputs: str | None = None
    outputs: str | None = None
    client: str | None = None


def copy_line(record: Record, writer: str, sequence: int) -> bytes:
    """The record's line, newline included."""
    fields = (
        f"{time_text(record.time)}\t{writer}\t{sequence}",
        _text(record.request_id),
        _text(record.model),
        _text(record.version),
        _text(record.path),
        str(record.status),
        f"{record.latency_ms:.3f}",
        _text(stages_text(record.stages)),
        "\\N" if record.batch_rows is None else str(record.batch_rows),
        _text(record.inputs),
        _text(record.outputs),
        _text(record.client),
    )
    # Lone surrogates have no UTF-8; the database would refuse the whole batch for one.
    return ("\t".join(fields) + "\n").encode("utf-8", "replace")


@functools.lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}"


def time_text(moment: float) -> str:
    """A Unix time as PostgreSQL reads it, to the microsecond."""
    second, micros = divmod(round(moment * 1_000_000), 1_000_000)
    return f"{_second_text(second)}.{micros:06d}+00"


def stages_text(stages: Mapping[str, float] | None) -> str | None:
    """The stages as a JSON object, to the microsecond."""
    if stages is None:
        return None
    inner = ",".join(f"{_quoted(name)}:{value:.3f}" for name, value in stages.items())
    return f"{{{inner}}}"


@functools.lru_cache(maxsize=64)
def _quoted(name: str) -> str:
    return json.dumps(name)


def _text(value: str | None) -> str:
    if value is None:
        return "\\N"
    return value.translate(_ESCAPES) if _needs_escape(value) else value


def _needs_escape(value: str) -> bool:
    return "\\" in value or not value.isprintable()


def read_line(line: bytes) -> dict[str, str | None] | None:
    """The columns of a line by name; None if it isn't whole, as a crash may leave the last one."""
    parts = line.rstrip(b"\n").split(b"\t")
    if len(parts) != len(COLUMNS) or not parts[2].isdigit():
        return None
    values = (None if part == _NULL else _unescape(part.decode("utf-8")) for part in parts)
    return dict(zip(COLUMNS, values, strict=True))


def sequence_of(line: bytes) -> int:
    """The sequence of a whole line."""
    return int(line.split(b"\t", 3)[2])


def is_whole(line: bytes) -> bool:
    """Whether a line is complete."""
    return line.endswith(b"\n") and line.count(b"\t") == len(COLUMNS) - 1


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out, at = [], 0
    while (found := text.find("\\", at)) >= 0:
        following = text[found + 1 : found + 2]
        out += [text[at:found], _LETTERS.get(following, following)]
        at = found + 2
    return "".join([*out, text[at:]])
