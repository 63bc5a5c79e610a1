"""The prediction log: every request with its answer, kept without being in the request's way.

Rules: two lines in an app are enough, `log_predictions` around a WSGI or ASGI app; where the
records go is said by the environment (see `settings`). Requests never wait for the log and never
fail because of it. Standard library only; psycopg 3 where there is a Postgres.
"""

from __future__ import annotations

from dockyard_serve.predictions.log import PredictionLog, open_log
from dockyard_serve.predictions.middleware import log_predictions
from dockyard_serve.predictions.record import Record

__all__ = ["PredictionLog", "Record", "log_predictions", "open_log"]
