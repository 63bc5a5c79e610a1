"""The log of one process: takes records without waiting, and gets them home in the background.

Rules:
- `add` puts a record on a queue and returns; it never waits, fails or writes. When the queue is
  full, the record is dropped and counted.
- One thread makes lines of records, some at a time so that requests get their turn, and writes them
  to the spool (or, without a database, to SQLite). From then on they are accepted: nothing but the
  loss of the disk loses them. That is at most `_PAUSE` seconds after the request.
- Another thread brings the spool to PostgreSQL, in order, exactly once, and tries again for ever.
- `close` writes what is queued, and gives the database a moment; the rest stays in the spool for
  the next process that finds it.
- Threads begin with the first record, so that servers may fork before.
"""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from dockyard_serve.predictions.postgres import Away, Postgres, Refused, is_available
from dockyard_serve.predictions.record import Record, copy_line
from dockyard_serve.predictions.settings import LogSettings, SettingsError, read_settings
from dockyard_serve.predictions.spool import Spool, SpoolFull, left_behind
from dockyard_serve.predictions.sqlite import SchemaTooNew, open_database, row_of, tidy, write_rows

_log = logging.getLogger("dockyard.predictions")

_PAUSE = 0.05  # Seconds that records gather before they are written.
_SYNC = 1.0  # Seconds after which what was written is forced to the disk.
_SLICE = 32  # Records made into lines before others get their turn.
_MOST_QUEUED = 100_000
_BLOCK = 1 << 20  # Bytes in one transaction.
_SMALL = 256 << 10  # Bytes; after a smaller transaction more are gathered for a moment,
_GATHER = 0.25  # this many seconds.
_RETRY = (0.2, 10.0)  # Seconds between tries, the first and the longest.
_ADOPT = 60.0  # Seconds between looks for spools that were left behind.

Late = Callable[[], Record]
"""A record that is made in the background, where making it costs something."""


@dataclass(slots=True)
class Counts:
    """What has become of the records of this process."""

    accepted: int = 0
    written: int = 0
    dropped: int = 0


class _Store(Protocol):
    def append(self, records: list[Record]) -> None:
        """Keep the records for good; SpoolFull or an OSError means that none was kept."""

    def idle(self) -> None:
        """Called when there is nothing to append."""

    def close(self, grace: float) -> None:
        """Keep what must be kept, and let go."""


class PredictionLog:
    """A log; one for each process. `add` may be called from any thread."""

    def __init__(self, settings: LogSettings) -> None:
        self.settings = settings
        self.counts = Counts()
        self._queue: deque[Record | Late] = deque()
        self._pid = 0
        # A signal's handler may close the log while its thread begins it.
        self._guard = threading.RLock()
        self._wake = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._store: _Store | None = None
        self._told: float = 0.0
        # Whether the thread has records in its hands.
        self._holding = False

    @property
    def enabled(self) -> bool:
        """Whether anything is logged."""
        return self.settings.target != "off"

    def add(self, record: Record | Late) -> None:
        """Log a record, or what a function will make one of; returns at once."""
        if self._pid != os.getpid():
            self._begin()
        if len(self._queue) >= _MOST_QUEUED:
            self.counts.dropped += 1
            return
        self._queue.append(record)

    def _begin(self) -> None:
        """Start the thread, in this process."""
        with self._guard:
            if self._pid == os.getpid():
                return
            # What a parent has queued is the parent's.
            self._queue = deque()
            self.counts = Counts()
            self._done = threading.Event()
            self._wake = threading.Event()
            self._store = None
            self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
            self._thread.start()
            self._pid = os.getpid()
            atexit.register(self.close)

    def _work(self) -> None:
        pending: list[Record] = []
        while True:
            ending = self._done.is_set()
            self._holding = True
            self._take(pending)
            if pending:
                self._keep(pending)
            elif self._store is not None:
                self._store.idle()
            self._holding = bool(pending)
            if ending and not self._queue:
                if pending:
                    self.counts.dropped += len(pending)
                    self._tell(f"{len(pending)} predictions could not be written anywhere")
                return
            if not ending:
                self._wake.wait(_PAUSE)
                if not self._done.is_set():
                    self._wake.clear()

    def _take(self, pending: list[Record]) -> None:
        """Move what is queued to the list, making late ones now."""
        queue = self._queue
        while queue and len(pending) < _MOST_QUEUED:
            item = queue.popleft()
            try:
                pending.append(item if isinstance(item, Record) else item())
            except Exception:
                # A body that can't be looked at must not end the log.
                self.counts.dropped += 1
                _log.exception("a prediction can't be logged")
            if len(pending) % _SLICE == 0:
                time.sleep(0)

    def _keep(self, pending: list[Record]) -> None:
        try:
            if self._store is None:
                self._store = _open_store(self.settings, self.counts)
            self._store.append(pending)
        except SpoolFull:
            self.counts.dropped += len(pending)
            self._tell(f"the spool is full: {self.counts.dropped} predictions weren't kept so far")
            pending.clear()
        except (OSError, sqlite3.Error, SchemaTooNew) as error:
            # Kept in memory and tried again, up to the queue's length.
            self._tell(f"predictions can't be written: {error}")
            time.sleep(_RETRY[0])
        else:
            self.counts.accepted += len(pending)
            pending.clear()

    def _tell(self, text: str) -> None:
        """Say something at most every ten seconds."""
        if time.monotonic() - self._told > 10 or not self._told:
            self._told = time.monotonic()
            _log.warning("%s", text)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything that was added so far is accepted; whether it was in time."""
        if self._pid != os.getpid():
            return True
        deadline = time.monotonic() + timeout
        while self._queue or self._holding:
            self._wake.set()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Write what is queued, give the database a moment, and stop; may be called again."""
        with self._guard:
            thread, self._thread = self._thread, None
            if thread is None or self._pid != os.getpid():
                return
        self._done.set()
        self._wake.set()
        thread.join(self.settings.grace + 30)
        if self._store is not None:
            self._store.close(self.settings.grace)
            self._store = None
        atexit.unregister(self.close)

    def waiting_bytes(self) -> int:
        """Bytes in the spool that the database doesn't have yet."""
        store = self._store
        return store.waiting_bytes() if isinstance(store, _Spooled) else 0


def open_log(environ: Mapping[str, str] | None = None) -> PredictionLog:
    """The log that the environment asks for; a wrong setting is said and turns it off."""
    try:
        settings = read_settings(environ)
    except SettingsError as error:
        _log.error("predictions aren't logged: %s", error)
        settings = LogSettings()
    if settings.target == "postgres" and not is_available():
        _log.error(
            "predictions aren't logged to PostgreSQL: psycopg 3 isn't installed; add "
            "psycopg[binary] to the dependencies"
        )
        settings = read_settings({**(environ or os.environ), "PREDICTION_LOG": _without(environ)})
    return PredictionLog(settings)


def _without(environ: Mapping[str, str] | None) -> str:
    return "sqlite" if (environ or os.environ).get("LOG_DIR") else "off"


def _open_store(settings: LogSettings, counts: Counts) -> _Store:
    settings.folder.mkdir(parents=True, exist_ok=True)
    if settings.target == "postgres":
        return _Spooled(settings, counts)
    return _Embedded(settings, counts)


class _Embedded:
    """SQLite: what is appended is in the database at once."""

    def __init__(self, settings: LogSettings, counts: Counts) -> None:
        import uuid

        self._settings = settings
        self._counts = counts
        self._connection = open_database(settings.database_file)
        self._writer = str(uuid.uuid4())
        self._sequence = 0
        self._tidied = 0.0

    def append(self, records: list[Record]) -> None:
        rows = []
        for number, record in enumerate(records, self._sequence + 1):
            rows.append(row_of(record, self._writer, number))
            if number % _SLICE == 0:
                time.sleep(0)
        write_rows(self._connection, rows)
        self._sequence += len(records)
        self._counts.written += len(records)

    def idle(self) -> None:
        if time.monotonic() - self._tidied > 3600 or not self._tidied:
            self._tidied = time.monotonic()
            tidy(self._connection, self._settings.retention_days)

    def close(self, grace: float) -> None:
        self._connection.close()


class _Spooled:
    """The spool, and the thread that brings it to PostgreSQL."""

    def __init__(self, settings: LogSettings, counts: Counts) -> None:
        self._settings = settings
        self._counts = counts
        self._spool = Spool.new(settings.spool, limit=settings.spool_bytes)
        self._next = 1
        self._synced = time.monotonic()
        self._unsynced = False
        self._arrived = 0
        self._wake = threading.Event()
        self._ending: float | None = None
        self._thread = threading.Thread(target=self._ship, name="prediction-ship", daemon=True)
        self._thread.start()

    def append(self, records: list[Record]) -> None:
        lines = []
        for number, record in enumerate(records, self._next):
            lines.append(copy_line(record, self._spool.writer, number))
            if number % _SLICE == 0:
                time.sleep(0)
        self._spool.append(b"".join(lines), self._next)
        self._next += len(records)
        self._unsynced = True
        self._sync_in_time()
        self._wake.set()

    def idle(self) -> None:
        self._sync_in_time()

    def _sync_in_time(self) -> None:
        if self._unsynced and time.monotonic() - self._synced >= _SYNC:
            self._spool.sync()
            self._unsynced = False
            self._synced = time.monotonic()

    def waiting_bytes(self) -> int:
        return 0 if self._arrived >= self._spool.last else self._spool.size

    def close(self, grace: float) -> None:
        self._spool.sync()
        self._ending = time.monotonic() + grace
        self._wake.set()
        self._thread.join(grace + 15)
        self._spool.close(arrived=self._arrived)

    def _ship(self) -> None:
        """Bring blocks home until closed; every failure is waited out."""
        database = Postgres(self._settings)
        pause, adopted, said, known = _RETRY[0], 0.0, "", False
        while True:
            ending = self._ending is not None
            if ending and (
                self._arrived >= self._spool.last or time.monotonic() > (self._ending or 0)
            ):
                break
            try:
                if not ending and (not adopted or time.monotonic() - adopted > _ADOPT):
                    self._adopt(database)
                    adopted = time.monotonic()
                if not known:
                    reached = database.position(self._spool.writer)
                    # A batch whose commit wasn't heard of is there after all.
                    self._counts.written += max(0, reached - self._arrived)
                    self._arrived, known = reached, True
                block = self._spool.read(self._arrived, most=_BLOCK)
                if block is not None:
                    database.write(self._spool.writer, block, after=self._arrived)
                    self._counts.written += block.last - block.first + 1
                    self._arrived = block.last
                    self._spool.forget(self._arrived)
                else:
                    database.tidy(datetime.now(UTC).date())
            except (Away, Refused, OSError) as error:
                # Where it came to is asked of the database again.
                known = False
                if str(error) != said:
                    said = str(error)
                    _log.warning("predictions wait on disk: %s", said)
                self._wait(pause)
                pause = min(pause * 2, _RETRY[1])
                continue
            if said:
                _log.info("the database is back; predictions go on")
                said = ""
            pause = _RETRY[0]
            if block is None:
                self._wait(_SYNC)
            elif len(block.data) < _SMALL and self._ending is None:
                # A transaction costs as much for few records as for many.
                time.sleep(_GATHER)
        database.close()

    def _wait(self, seconds: float) -> None:
        if self._ending is None:
            self._wake.wait(seconds)
            self._wake.clear()
        else:
            time.sleep(min(seconds, 0.1))

    def _adopt(self, database: Postgres) -> None:
        """Bring home what processes left behind that died."""
        for spool in left_behind(self._settings.spool, limit=self._settings.spool_bytes):
            arrived = 0
            try:
                arrived = database.position(spool.writer)
                while (block := spool.read(arrived, most=_BLOCK)) is not None:
                    database.write(spool.writer, block, after=arrived)
                    arrived = block.last
                    spool.forget(arrived)
                _log.info("%d predictions of an earlier process are in the database", spool.last)
            finally:
                spool.close(arrived=arrived)


def metrics_text(log: PredictionLog) -> str:
    """The log's own numbers in Prometheus' text format."""
    values: list[tuple[str, str, str, Any]] = [
        ("accepted_total", "counter", "Predictions written to disk.", log.counts.accepted),
        ("written_total", "counter", "Predictions written to the database.", log.counts.written),
        ("dropped_total", "counter", "Predictions that weren't kept.", log.counts.dropped),
        ("spool_bytes", "gauge", "Bytes that wait for the database.", log.waiting_bytes()),
        ("spool_limit_bytes", "gauge", "Bytes that may wait.", log.settings.spool_bytes),
    ]
    lines = []
    for name, kind, text, value in values:
        name = f"dockyard_prediction_log_{name}"
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]
    return "\n".join(lines) + "\n"
