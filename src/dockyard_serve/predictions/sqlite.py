"""Keep records in a SQLite file: the default where there is no database.

Rules: each batch is one transaction; the file is in WAL mode, so that it can be read at any time
and a crash of the process loses nothing that was written. Several processes may write; they wait
for each other. The columns are those of PostgreSQL, JSON as text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dockyard_serve.predictions.record import COLUMNS, Record, stages_text, time_text

VERSION = 1
_SCHEMA = """\
create table if not exists predictions (
    time        text    not null,
    writer      text    not null,
    sequence    integer not null,
    request_id  text    not null,
    model       text,
    version     text,
    path        text,
    status      integer not null,
    latency_ms  real    not null,
    stages      text,
    batch_rows  integer,
    inputs      text,
    outputs     text,
    client      text,
    primary key (writer, sequence)
) without rowid;
create index if not exists predictions_time on predictions (time);
"""


class SchemaTooNew(Exception):
    """The file was written by a newer version of this program."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, and make what is missing; SchemaTooNew or sqlite3.Error otherwise."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
        if version > VERSION:
            raise SchemaTooNew(
                f"{path.name} has a schema of version {version}, and this program knows {VERSION}: "
                "use a newer version of dockyard_serve"
            )
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        if version < VERSION:
            connection.executescript(_SCHEMA)
            connection.execute(f"pragma user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def row_of(record: Record, writer: str, sequence: int) -> tuple[object, ...]:
    """The record's columns, in their order."""
    return (
        time_text(record.time),
        writer,
        sequence,
        _clean(record.request_id),
        _clean(record.model),
        _clean(record.version),
        _clean(record.path),
        record.status,
        round(record.latency_ms, 3),
        stages_text(record.stages),
        record.batch_rows,
        _clean(record.inputs),
        _clean(record.outputs),
        _clean(record.client),
    )


def _clean(text: str | None) -> str | None:
    """Text that UTF-8 can write."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def write_rows(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Add rows, all or none; those that are there already are left alone."""
    places = ", ".join("?" * len(COLUMNS))
    connection.execute("begin immediate")
    try:
        connection.executemany(f"insert or ignore into predictions values ({places})", rows)  # noqa: S608
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def tidy(connection: sqlite3.Connection, days: int, now: datetime | None = None) -> None:
    """Remove what is older than is kept; 0 keeps all."""
    if days:
        oldest = (now or datetime.now(UTC)) - timedelta(days=days)
        connection.execute("delete from predictions where time < ?", (f"{oldest:%Y-%m-%d}",))
