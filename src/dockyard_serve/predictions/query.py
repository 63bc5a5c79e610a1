"""Read the log: records that match, newest first, from PostgreSQL or SQLite alike.

Rules: filters become parameters of one query, never its text. Records come one by one, so that a
large log needs little memory.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dockyard_serve.predictions.settings import LogSettings

FIELDS = (
    *("time", "request_id", "model", "version", "path", "status", "latency_ms"),
    *("stages", "batch_rows", "inputs", "outputs", "client"),
)
_JSON = frozenset({"stages", "inputs", "outputs"})
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class QueryError(ValueError):
    """The log can't be read, or a filter can't be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is wanted; None: anything. since, until: moments; statuses: the first and the last."""

    model: str | None = None
    version: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    statuses: tuple[int, int] | None = None
    limit: int | None = None


def parse_status(text: str) -> tuple[int, int]:
    """ "200", "5xx", or "error" (400 and above)."""
    if text == "error":
        return 400, 599
    if re.fullmatch(r"[1-5]xx", text):
        return int(text[0]) * 100, int(text[0]) * 100 + 99
    if re.fullmatch(r"[1-5][0-9]{2}", text):
        return int(text), int(text)
    raise QueryError(f"{text!r} is no status: write 200, 5xx or error")


def parse_moment(text: str, now: datetime | None = None) -> datetime:
    """ "15m", "2h", "7d" ago; a date or a date and time (ISO 8601), UTC where no zone is said."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return (now or datetime.now(UTC)) - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(f"{text!r} is no time: write 15m, 2h, 7d or 2026-11-24T10:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_log(settings: LogSettings, filters: Filters) -> Iterator[dict[str, Any]]:
    """The records that match, newest first; raises QueryError when there is no log."""
    if settings.target == "postgres":
        yield from _from_postgres(settings, filters)
    elif settings.target == "sqlite":
        yield from _from_sqlite(settings, filters)
    else:
        raise QueryError("no predictions are logged here: neither a database nor LOG_DIR is set")


def _conditions(filters: Filters, mark: str, *, text_time: bool) -> tuple[str, list[Any]]:
    """The WHERE and LIMIT of a query with its parameters; mark: %s or ?."""
    parts: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        parts.append(condition.replace("?", mark))
        values.extend(given)

    def moment(value: datetime) -> Any:
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00" if text_time else value

    for name in ("model", "version", "request_id"):
        if (value := getattr(filters, name)) is not None:
            add(f"{name} = ?", value)
    if filters.since is not None:
        add("time >= ?", moment(filters.since))
    if filters.until is not None:
        add("time < ?", moment(filters.until))
    if filters.statuses is not None:
        add("status between ? and ?", *filters.statuses)
    text = f" where {' and '.join(parts)}" if parts else ""
    text += " order by time desc, sequence desc"
    if filters.limit is not None:
        text += f" limit {mark}"
        values.append(filters.limit)
    return text, values


def _from_postgres(settings: LogSettings, filters: Filters) -> Iterator[dict[str, Any]]:
    import psycopg

    from dockyard_serve.predictions.postgres import connect

    where, values = _conditions(filters, "%s", text_time=False)
    # JSON as text: it is passed on as it is.
    names = ", ".join(f"{name}::text" if name in _JSON else name for name in FIELDS)
    try:
        with connect(settings) as connection, connection.transaction():
            cursor = connection.cursor("records")
            cursor.execute(f"select {names} from dockyard.predictions{where}".encode(), values)  # noqa: S608
            for row in cursor:
                yield _record(dict(zip(FIELDS, row, strict=True)))
    except psycopg.errors.UndefinedTable:
        return
    except psycopg.Error as error:
        raise QueryError(f"the database can't be read: {str(error).strip()}") from error


def _from_sqlite(settings: LogSettings, filters: Filters) -> Iterator[dict[str, Any]]:
    path = settings.database_file
    if not path.exists():
        return
    where, values = _conditions(filters, "?", text_time=True)
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            query = f"select {', '.join(FIELDS)} from predictions{where}"  # noqa: S608
            for row in connection.execute(query, values):
                yield _record(dict(zip(FIELDS, row, strict=True)))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise QueryError(f"{path} can't be read: {error}") from error


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON shows it."""
    moment = row["time"]
    if isinstance(moment, datetime):
        row["time"] = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    else:
        row["time"] = datetime.fromisoformat(moment).isoformat(timespec="milliseconds")
    for name in _JSON:
        if row[name] is not None:
            try:
                row[name] = json.loads(row[name])
            except ValueError:
                # SQLite keeps text; what isn't JSON is shown as the text that it is.
                continue
    return row
