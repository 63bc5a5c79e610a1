"""The server's own predictions on their way into the log.

Rules: what the event loop does for a record is to put a closure on a queue; bodies are looked at by
the log's thread. Only what a model answered is recorded; streams are recorded without their output.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dockyard_serve.predictions.content import kept
from dockyard_serve.predictions.log import PredictionLog, open_log
from dockyard_serve.predictions.record import Record
from dockyard_serve.serving import AnsweredBy

if TYPE_CHECKING:
    from dockyard_serve.http.exchange import Exchange
    from dockyard_serve.metrics import Metrics


def open_served_log() -> ServedLog | None:
    """The log that the environment asks for; None when it asks for none."""
    log = open_log()
    return ServedLog(log) if log.enabled else None


class ServedLog:
    """A worker's log."""

    def __init__(self, log: PredictionLog) -> None:
        self._log = log

    def record(self, exchange: Exchange) -> None:
        """Log an exchange that has been answered, if a model answered it."""
        about = exchange.about
        if not isinstance(about, AnsweredBy):
            return
        now, ended = time.time(), time.perf_counter()
        settings = self._log.settings
        head, body, answer, received = (
            exchange.head,
            exchange.body,
            exchange.answer,
            exchange.received,
        )
        request_id, status, media_type = exchange.id, exchange.status, exchange.media_type

        def made() -> Record:
            seconds = ended - received
            job, stages = about.job, None
            if job is not None and job.ended:
                stages = {
                    "preprocess": (job.queued - received) * 1000,
                    "queue": (job.began - job.queued) * 1000,
                    "inference": (job.ended - job.began) * 1000,
                    "postprocess": (ended - job.ended) * 1000,
                }
            return Record(
                time=now - seconds,
                request_id=request_id,
                status=status,
                latency_ms=seconds * 1000,
                model=about.model,
                version=about.version,
                path=head.target.partition("?")[0][:500],
                stages=stages,
                inputs=kept(
                    body,
                    head.headers.get("content-type", ""),
                    settings.inputs,
                    max_bytes=settings.max_bytes,
                    redact=settings.redact,
                ),
                outputs=kept(
                    answer,
                    media_type.decode("latin-1"),
                    settings.outputs,
                    max_bytes=settings.max_bytes,
                    redact=settings.redact,
                ),
            )

        self._log.add(made)

    def count(self, metrics: Metrics) -> None:
        """Set the log's own numbers, before they are read."""
        counts = self._log.counts
        for name, value in (
            ("accepted_total", counts.accepted),
            ("written_total", counts.written),
            ("dropped_total", counts.dropped),
            ("spool_bytes", self._log.waiting_bytes()),
            ("spool_limit_bytes", self._log.settings.spool_bytes),
        ):
            metrics.value(f"dockyard_prediction_log_{name}").set(value)

    def close(self) -> None:
        """Write what is queued, and give the database a moment."""
        self._log.close()
