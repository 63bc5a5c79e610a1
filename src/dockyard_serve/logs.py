"""Logs as lines of JSON: to stdout, and to rotated files where LOG_DIR says.

Rules: one line is one event: time (RFC 3339), level, message, then what belongs to it. A line is
written with one write, so that lines of several workers don't mix.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

_FILE_BYTES = 10 * 1024 * 1024
_FILES = 5
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if self._worker is not None:
            event["worker"] = self._worker
        for key, value in record.__dict__.items():
            if key not in _USUAL and value is not None:
                event[key] = value
        if record.exc_info and record.exc_info[1] is not None:
            event["error"] = str(record.exc_info[1])
            event["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return orjson.dumps(event, default=str).decode()


def start_logging(
    *, worker: int | None = None, log_dir: Path | None = None, level: str = "info"
) -> None:
    """Send this process's logs to stdout and, in `log_dir`, to a file of the worker's own."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_dir is not None:
        name = "serve.log" if worker is None else f"serve-{worker}.log"
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            handlers.append(
                RotatingFileHandler(log_dir / name, maxBytes=_FILE_BYTES, backupCount=_FILES)
            )
        except OSError as error:
            print(f"LOG_DIR {log_dir} can't be written: {error}", file=sys.stderr)  # noqa: T201
    formatter = JsonFormatter(worker)
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)


def log_dir_from_environment() -> Path | None:
    """The folder that LOG_DIR names."""
    named = os.environ.get("LOG_DIR")
    return Path(named) if named else None
