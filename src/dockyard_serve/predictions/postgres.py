"""Bring records to PostgreSQL: the schema, partitions by day, and each batch exactly once.

Rules: a batch and the position that it reaches are one transaction, so that after any failure the
database itself says how far it came; the position is compared and set, so that a connection that
was thought dead can't write a batch twice. Lines go by COPY as they lie in the spool. A line that
the database refuses is put into dockyard.rejected, never in the way of the others. Errors of
psycopg leave here as `Away` (try again later) or `Refused` (a person must do something, and then it
goes on by itself).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

from dockyard_serve.predictions.record import COLUMNS
from dockyard_serve.predictions.settings import LogSettings, password

if TYPE_CHECKING:
    from psycopg import Connection

    from dockyard_serve.predictions.spool import Block

_LOCK_KEY = 0x646F636B79617264  # "dockyard": one migration at a time, whoever else locks.
_PATIENCE = 5  # Seconds to connect, and for a lock.
# Seconds after which a connection that says nothing is given up: more than a statement may take.
_HANGS_AFTER = 40.0
# A network that swallows packets is noticed in about ten seconds, on both sides.
_CLIENT = {
    "connect_timeout": _PATIENCE,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "dockyard prediction log",
}
_SERVER = (
    "-c lock_timeout=5s -c statement_timeout=25s -c idle_in_transaction_session_timeout=30s "
    "-c tcp_user_timeout=10s -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 "
    "-c tcp_keepalives_count=3 -c client_encoding=utf8 -c timezone=UTC"
)


class Away(Exception):
    """The database doesn't answer, or not as it should; it may soon."""


class Refused(Exception):
    """The database answers and refuses: a password, a right, a schema that is too new."""


class Postgres:
    """A database to write to; connected when it is first used, and again after a failure."""

    def __init__(self, settings: LogSettings) -> None:
        assert settings.conninfo is not None
        self._settings = settings
        self._connection: Connection[Any] | None = None
        self._days: set[date] = set()
        self._cleaned: date | None = None

    def position(self, writer: str) -> int:
        """The sequence that a writer has reached; 0 for one that isn't known."""
        with self._talking() as connection:
            row = connection.execute(
                "select sequence from dockyard.writers where writer = %s", (writer,)
            ).fetchone()
        return int(row[0]) if row else 0

    def write(self, writer: str, block: Block, *, after: int) -> None:
        """Add a block's rows, and move the writer's position from `after` to their end."""
        from psycopg import DataError, IntegrityError

        with self._talking() as connection:
            self._make_partitions(connection, block)
            try:
                with connection.transaction():
                    _advance(connection, writer, after, block.last)
                    _copy(connection, block.data)
                return
            except (DataError, IntegrityError):
                # The transaction is undone; the lines go one part at a time.
                pass
            with connection.transaction():
                _advance(connection, writer, after, block.last)
                _copy_what_can(connection, writer, block.first, block.data)

    def tidy(self, today: date) -> None:
        """Drop the partitions that are older than is kept; once a day."""
        keep = self._settings.retention_days
        if not keep or self._cleaned == today:
            return
        oldest = today - timedelta(days=keep)
        with self._talking() as connection:
            rows = connection.execute(
                "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
                "where i.inhparent = 'dockyard.predictions'::regclass"
            ).fetchall()
            for (name,) in rows:
                match = re.fullmatch(r"predictions_(\d{4})(\d{2})(\d{2})", name)
                if match and date(*map(int, match.groups())) < oldest:
                    with connection.transaction():
                        connection.execute(f"drop table if exists dockyard.{name}".encode())
            with connection.transaction():
                connection.execute("delete from dockyard.writers where updated < %s", (oldest,))
                connection.execute("delete from dockyard.rejected where time < %s", (oldest,))
        self._cleaned = today

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _talking(self) -> Iterator[Connection[Any]]:
        """The connection; after an error there is none, and the error is one of ours."""
        import psycopg

        try:
            connection = self._connected()
            with _not_longer_than(connection, _HANGS_AFTER):
                yield connection
        except psycopg.Error as error:
            self.close()
            self._days.clear()
            raise translated(error) from error
        except BaseException:
            self.close()
            raise

    def _connected(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = connect(self._settings)
            try:
                migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make_partitions(self, connection: Connection[Any], block: Block) -> None:
        """Make the days of a block, and the day before: a request may begin before midnight."""
        lines = block.data
        first = _day(lines[:10])
        last = _day(lines[lines.rfind(b"\n", 0, len(lines) - 1) + 1 :][:10])
        wanted = {first - timedelta(days=1), first, last}
        if max(wanted) - min(wanted) > timedelta(days=2):
            wanted |= {_day(line[:10]) for line in lines.splitlines()}
        missing = sorted(wanted - self._days)
        if not missing:
            return
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
            for day in missing:
                connection.execute(_partition(day).encode())
        self._days |= wanted


@contextlib.contextmanager
def _not_longer_than(connection: Connection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection when it takes longer; what waits for an answer then fails.

    A proxy between may keep a connection alive whose other end is gone.
    """

    def cut() -> None:
        with contextlib.suppress(Exception):
            end = socket.socket(fileno=os.dup(connection.fileno()))
            end.shutdown(socket.SHUT_RDWR)
            end.close()

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def connect(settings: LogSettings) -> Connection[Any]:
    """Open a connection; psycopg's errors leave as they are."""
    import psycopg

    found: dict[str, Any] = dict(settings.conninfo or {})
    given: dict[str, Any] = dict(_CLIENT)
    secret = password(settings)
    if secret is not None:
        given["password"] = secret
    conninfo = found.pop("conninfo", "")
    return psycopg.connect(
        conninfo, autocommit=True, prepare_threshold=None, options=_SERVER, **(found | given)
    )


def migrations() -> list[tuple[int, str]]:
    """(version, SQL) of each step, in order."""
    folder = resources.files("dockyard_serve.predictions") / "migrations"
    found = [
        (int(item.name[:4]), item.read_text(encoding="utf-8"))
        for item in folder.iterdir()
        if re.fullmatch(r"\d{4}_\w+\.sql", item.name)
    ]
    return sorted(found)


def migrate(connection: Connection[Any]) -> None:
    """Bring the schema to this program's version; Refused if it is newer."""
    known = migrations()
    newest = known[-1][0]
    row = connection.execute("select to_regclass('dockyard.schema_version')").fetchone()
    if row is not None and row[0] is not None and _version(connection) == newest:
        return
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        connection.execute("create schema if not exists dockyard")
        connection.execute(
            "create table if not exists dockyard.schema_version ("
            "version integer primary key, applied timestamptz not null default now())"
        )
        present = _version(connection)
        if present > newest:
            raise Refused(
                f"the database's schema is of version {present}, and this program knows {newest}: "
                "use a newer version of dockyard_serve"
            )
        for version, text in known:
            if version > present:
                connection.execute(text.encode())
                connection.execute(
                    "insert into dockyard.schema_version (version) values (%s)", (version,)
                )


def _version(connection: Connection[Any]) -> int:
    row = connection.execute(
        "select coalesce(max(version), 0) from dockyard.schema_version"
    ).fetchone()
    return int(row[0]) if row else 0


def _advance(connection: Connection[Any], writer: str, before: int, after: int) -> None:
    """Move a writer's position; Away if it isn't where it was thought to be."""
    done = connection.execute(
        "insert into dockyard.writers (writer, sequence) values (%s, %s) "
        "on conflict (writer) do update set sequence = excluded.sequence, updated = now() "
        "where dockyard.writers.sequence = %s",
        (writer, after, before),
    )
    if done.rowcount != 1:
        raise Away("another connection has moved the position; it is read again")


def _copy(connection: Connection[Any], lines: bytes) -> None:
    names = ", ".join(COLUMNS)
    with connection.cursor().copy(
        f"copy dockyard.predictions ({names}) from stdin".encode()
    ) as out:
        out.write(lines)


def _copy_what_can(connection: Connection[Any], writer: str, first: int, lines: bytes) -> None:
    """Copy halves of halves, so that one bad line costs a few tries and no other line."""
    from psycopg import DataError, IntegrityError

    try:
        with connection.transaction():
            _copy(connection, lines)
        return
    except (DataError, IntegrityError) as error:
        parts = lines.splitlines(keepends=True)
        if len(parts) == 1:
            connection.execute(
                "insert into dockyard.rejected (writer, sequence, reason, line) "
                "values (%s, %s, %s, %s)",
                (writer, first, str(error).split("\n")[0], lines),
            )
            return
    middle = len(parts) // 2
    _copy_what_can(connection, writer, first, b"".join(parts[:middle]))
    _copy_what_can(connection, writer, first + middle, b"".join(parts[middle:]))


def _day(text: bytes) -> date:
    return date.fromisoformat(text.decode())


def _partition(day: date) -> str:
    following = day + timedelta(days=1)
    return (
        f"create table if not exists dockyard.predictions_{day:%Y%m%d} "
        f"partition of dockyard.predictions "
        f"for values from ('{day} 00:00+00') to ('{following} 00:00+00')"
    )


# SQLSTATEs that a person must look at: authorisation, rights, a database or schema that isn't there
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_REFUSALS = ("28", "42", "3D", "3F")


def translated(error: Exception) -> Exception:
    """Our own error for one of psycopg's."""
    state = getattr(error, "sqlstate", None) or ""
    text = str(error).strip().split("\n")[0]
    # libpq gives no SQLSTATE for what the server said before a connection was there.
    if state.startswith(_REFUSALS) or re.search(
        r"password authentication failed|no password supplied|role .* does not exist|"
        r"database .* does not exist|no pg_hba\.conf entry",
        str(error),
    ):
        return Refused(text)
    return Away(text)


def is_available() -> bool:
    """Whether psycopg 3 is installed."""
    try:
        import psycopg
    except ImportError:
        return False
    return bool(psycopg.__version__)
