"""Requests counted for Prometheus, under the names that the inference server uses too.

Rules: one process counts its own; servers with several worker processes give each its own numbers,
so run them with one worker and threads, or scrape the log's table instead.
"""

from __future__ import annotations

import bisect
import threading

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_HELP = (
    ("dockyard_requests_total", "counter", "Answered requests, by model, version and status."),
    ("dockyard_request_duration_seconds", "histogram", "From a request to the end of its answer."),
)


class RequestCounts:
    """How many requests were answered, and how long they took."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._answers: dict[tuple[str, str, int], int] = {}
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def add(self, model: str | None, version: str | None, status: int, seconds: float) -> None:
        """Count one answer."""
        key = (model or "", version or "")
        with self._guard:
            answer = (*key, status)
            self._answers[answer] = self._answers.get(answer, 0) + 1
            buckets = self._buckets.setdefault(key, [0] * (len(_BOUNDS) + 1))
            buckets[bisect.bisect_left(_BOUNDS, seconds)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + seconds

    def text(self) -> str:
        """The counts in Prometheus' text format 0.0.4."""
        lines = []
        with self._guard:
            for name, kind, text in _HELP:
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                if kind == "counter":
                    for (model, version, status), count in sorted(self._answers.items()):
                        labels = f'{_labels(model, version)},code="{status}"'
                        lines.append(f"{name}{{{labels}}} {count}")
                    continue
                for key, buckets in sorted(self._buckets.items()):
                    labels, total = _labels(*key), 0
                    for bound, count in zip([*map(str, _BOUNDS), "+Inf"], buckets, strict=True):
                        total += count
                        lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
                    lines.append(f"{name}_sum{{{labels}}} {self._sums[key]!r}")
                    lines.append(f"{name}_count{{{labels}}} {total}")
        return "\n".join(lines) + "\n"


def _labels(model: str, version: str) -> str:
    return f'model="{_escaped(model)}",version="{_escaped(version)}"'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
