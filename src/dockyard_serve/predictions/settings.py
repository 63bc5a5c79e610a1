"""Where predictions are logged and how much of them: read from the environment, once.

Rules: DATABASE_URL, or DB_HOST with DB_PORT, DB_NAME, DB_USER and DB_PASSWORD or DB_PASSWORD_FILE,
means PostgreSQL; otherwise LOG_DIR means SQLite in that folder; otherwise nothing is logged. The
rest is PREDICTION_LOG_…, as `read_settings` reads it. A value that can't be meant is an error at
the start, with its name; the password is read anew for each connection, so that it may change.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Target = Literal["postgres", "sqlite", "off"]
Mode = Literal["whole", "summary", "digest", "none"]
MODES: tuple[Mode, ...] = ("whole", "summary", "digest", "none")

_MB = 1 << 20


class SettingsError(ValueError):
    """An environment variable has a value that can't be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How predictions are logged.

    inputs, outputs: how much of each is kept; max_bytes: larger ones are summarised; redact: names
    ("password") or paths ("user.email") of fields that are never kept; folder: for SQLite and the
    spool; spool_bytes: room on disk while the database is away; retention_days: 0 keeps all;
    grace: seconds that the end of the process waits for the database.
    """

    target: Target = "off"
    conninfo: Mapping[str, str] | None = None
    password_file: Path | None = None
    folder: Path = Path(tempfile.gettempdir())
    inputs: Mode = "whole"
    outputs: Mode = "whole"
    max_bytes: int = 16384
    redact: tuple[str, ...] = ()
    spool_bytes: int = 1024 * _MB
    retention_days: int = 90
    grace: float = 3.0

    @property
    def spool(self) -> Path:
        """The folder of records that haven't reached the database."""
        return self.folder / "prediction-spool"

    @property
    def database_file(self) -> Path:
        """The SQLite database."""
        return self.folder / "predictions.sqlite"


def read_settings(environ: Mapping[str, str] | None = None) -> LogSettings:
    """Read the settings; raises SettingsError that names the variable."""
    environ = os.environ if environ is None else environ
    wanted = _one_of(environ, "PREDICTION_LOG", ("auto", "postgres", "sqlite", "off"), "auto")
    log_dir = environ.get("LOG_DIR")
    has_database = bool(environ.get("DATABASE_URL") or environ.get("DB_HOST"))
    target: Target
    if wanted == "auto":
        target = "postgres" if has_database else "sqlite" if log_dir else "off"
    else:
        target = wanted  # type: ignore[assignment]
    if target == "postgres" and not has_database:
        raise SettingsError(
            "PREDICTION_LOG is postgres, but neither DATABASE_URL nor DB_HOST is set"
        )
    if target == "sqlite" and not log_dir:
        raise SettingsError("PREDICTION_LOG is sqlite, but LOG_DIR isn't set")
    redact = environ.get("PREDICTION_LOG_REDACT", "")
    password_file = environ.get("DB_PASSWORD_FILE")
    return LogSettings(
        target=target,
        conninfo=_conninfo(environ) if has_database else None,
        password_file=Path(password_file) if password_file else None,
        folder=Path(log_dir or tempfile.gettempdir()),
        inputs=_one_of(environ, "PREDICTION_LOG_INPUTS", MODES, "whole"),  # type: ignore[arg-type]
        outputs=_one_of(environ, "PREDICTION_LOG_OUTPUTS", MODES, "whole"),  # type: ignore[arg-type]
        max_bytes=_number(environ, "PREDICTION_LOG_MAX_BYTES", 16384),
        redact=tuple(name for name in (part.strip() for part in redact.split(",")) if name),
        spool_bytes=_number(environ, "PREDICTION_LOG_SPOOL_MB", 1024) * _MB,
        retention_days=_number(environ, "PREDICTION_LOG_RETENTION_DAYS", 90),
        grace=float(_number(environ, "PREDICTION_LOG_GRACE", 3)),
    )


def password(settings: LogSettings) -> str | None:
    """The password as it is now, where it is in a file; None where it isn't."""
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").strip()
    except OSError:
        # Said by the connection that fails for want of it, and tried again.
        return None


def _conninfo(environ: Mapping[str, str]) -> dict[str, str]:
    """Keywords of libpq; {"conninfo": URL} for a URL."""
    if url := environ.get("DATABASE_URL"):
        # SQLAlchemy's spelling of the driver means nothing to libpq.
        scheme, colon, rest = url.partition(":")
        return {"conninfo": scheme.partition("+")[0] + colon + rest}
    return {
        key: environ[name]
        for name, key in (
            ("DB_HOST", "host"),
            ("DB_PORT", "port"),
            ("DB_NAME", "dbname"),
            ("DB_USER", "user"),
            ("DB_PASSWORD", "password"),
        )
        if environ.get(name)
    }


def _one_of(environ: Mapping[str, str], name: str, known: tuple[str, ...], default: str) -> str:
    value = environ.get(name, "").strip().lower() or default
    if value not in known:
        raise SettingsError(
            f"{name} is {value!r}; it must be {', '.join(known[:-1])} or {known[-1]}"
        )
    return value


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise SettingsError(f"{name} is {text!r}; it must be a whole number")
    return int(text)
