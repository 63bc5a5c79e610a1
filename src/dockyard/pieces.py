"""Many small results in one file: a table of bytes by key, in SQLite.

Rules:
- For results that come by the thousand (one per module of an image): a file each would cost more
  than making them.
- It is a cache: a damaged or locked file is as good as an empty one, and never an error.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WAIT = 20.0  # Seconds for another process's transaction.


class Pieces:
    """One table; safe for several processes and threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading: sqlite3.Connection | None = None

    def __enter__(self) -> Pieces:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._reading is not None:
                self._reading.close()
                self._reading = None

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        with self._lock:
            try:
                if self._reading is None:
                    self._reading = self._open()
                row = self._reading.execute("SELECT value FROM pieces WHERE key = ?", (key,))
                found = row.fetchone()
            except (sqlite3.Error, OSError):
                return None
        return bytes(found[0]) if found else None

    def put(self, values: Mapping[str, bytes]) -> None:
        """Keep these values; what was there under the same keys is replaced."""
        if not values:
            return
        with self._lock:
            for _ in range(2):
                try:
                    with closing(self._open()) as connection, connection:
                        connection.executemany(
                            "INSERT OR REPLACE INTO pieces VALUES (?, ?)", values.items()
                        )
                    return
                except sqlite3.OperationalError:
                    return  # Locked or full: the values are made again when they are needed.
                except (sqlite3.DatabaseError, OSError):
                    self._path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_WAIT, check_same_thread=False)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS pieces (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
        return connection
