"""Numbers for Prometheus, kept in memory that all workers share and any of them can add up.

Rules: each worker writes to its own region, so that nothing is locked; whoever is asked for
`/metrics` reads all regions. A region is append-only: entries of a key and its values as doubles.
Counters of a worker that died stay, its gauges go when another takes its place.
"""

from __future__ import annotations

import bisect
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

REGION = 256 * 1024
LATENCIES = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

_HEADER = struct.Struct("=Q")  # Bytes in use.
_ENTRY = struct.Struct("=II")  # Length of the key, padded to 8; number of values.


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a metric is. kind: counter, gauge (added up over workers), maximum, or histogram."""

    name: str
    kind: str
    help: str
    buckets: Sequence[float] = field(default=())


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="dockyard_requests_total",
            kind="counter",
            help="Answered HTTP and gRPC requests, by model, version, protocol and code.",
        ),
        Metric(
            name="dockyard_request_duration_seconds",
            kind="histogram",
            help="From a complete request to its answer.",
            buckets=LATENCIES,
        ),
        Metric(
            name="dockyard_stage_duration_seconds",
            kind="histogram",
            help="Parts of a request: preprocess, queue, inference, postprocess.",
            buckets=LATENCIES,
        ),
        Metric(
            name="dockyard_batch_size",
            kind="histogram",
            help="Rows in one call of the model.",
            buckets=SIZES,
        ),
        Metric(name="dockyard_queue_depth", kind="gauge", help="Requests that wait for a model."),
        Metric(name="dockyard_in_flight", kind="gauge", help="Requests in a model's batch now."),
        Metric(name="dockyard_connections", kind="gauge", help="Open connections."),
        Metric(name="dockyard_model_ready", kind="maximum", help="1 if the version answers."),
        Metric(
            name="dockyard_model_load_seconds",
            kind="maximum",
            help="How long the version took to load and warm up.",
        ),
        Metric(
            name="dockyard_model_errors_total",
            kind="counter",
            help="Exceptions that models raised.",
        ),
        Metric(
            name="dockyard_worker_starts_total", kind="counter", help="Workers that became ready."
        ),
        Metric(name="process_cpu_seconds_total", kind="counter", help="CPU time of all workers."),
        Metric(
            name="process_resident_memory_bytes",
            kind="gauge",
            help="Resident memory of all workers.",
        ),
        Metric(
            name="dockyard_queue_capacity", kind="gauge", help="Requests that may wait for a model."
        ),
        Metric(
            name="dockyard_prediction_log_accepted_total",
            kind="counter",
            help="Predictions written to disk.",
        ),
        Metric(
            name="dockyard_prediction_log_written_total",
            kind="counter",
            help="Predictions written to the database.",
        ),
        Metric(
            name="dockyard_prediction_log_dropped_total",
            kind="counter",
            help="Predictions that weren't kept.",
        ),
        Metric(
            name="dockyard_prediction_log_spool_bytes",
            kind="gauge",
            help="Bytes that wait for the database.",
        ),
        Metric(
            name="dockyard_prediction_log_spool_limit_bytes",
            kind="gauge",
            help="Bytes that may wait.",
        ),
        Metric(name="dockyard_gpu_memory_used_bytes", kind="maximum", help="A GPU's used memory."),
        Metric(name="dockyard_gpu_memory_total_bytes", kind="maximum", help="A GPU's memory."),
    )
}


class Value:
    """A counter or a gauge."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview[float], at: int) -> None:
        self._cells = cells
        self._at = at

    def add(self, amount: float = 1.0) -> None:
        """Count up, or down."""
        self._cells[self._at] += amount

    def set(self, value: float) -> None:
        """Say what it is now."""
        self._cells[self._at] = value


class Histogram:
    """A count for each bucket (the last without bound), and the sum."""

    __slots__ = ("_at", "_bounds", "_cells", "_sum")

    def __init__(self, cells: memoryview[float], at: int, bounds: Sequence[float]) -> None:
        self._cells = cells
        self._at = at
        self._bounds = bounds
        self._sum = at + len(bounds) + 1

    def observe(self, value: float) -> None:
        """Count one value."""
        self._cells[self._at + bisect.bisect_left(self._bounds, value)] += 1.0
        self._cells[self._sum] += value


class SharedMemory:
    """One region for each worker; made before the workers are forked."""

    def __init__(self, workers: int = 1) -> None:
        self._memory = mmap.mmap(-1, workers * REGION)
        self._view = memoryview(self._memory)
        self.workers = workers

    def region(self, worker: int) -> memoryview:
        """The memory of a worker, by its number from 0."""
        return self._view[worker * REGION : (worker + 1) * REGION]


class Metrics:
    """What one worker counts."""

    def __init__(self, memory: SharedMemory, worker: int = 0) -> None:
        self._memory = memory
        self._region = memory.region(worker)
        self._cells: memoryview[float] = self._region.cast("d")
        self._known: dict[str, int] = {}
        for key, at, count in _entries(self._region):
            self._known[key] = at
            if METRICS[key.partition("{")[0]].kind in {"gauge", "maximum"}:
                self._cells[at : at + count] = memoryview(bytes(8 * count)).cast("d")

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> Value:
        """The counter or gauge of these labels."""
        return Value(self._cells, self._place(name, labels, 1))

    def histogram(self, name: str, labels: Mapping[str, str] | None = None) -> Histogram:
        """The histogram of these labels."""
        bounds = METRICS[name].buckets
        return Histogram(self._cells, self._place(name, labels, len(bounds) + 2), bounds)

    def _place(self, name: str, labels: Mapping[str, str] | None, count: int) -> int:
        """Where the values are, in doubles from the region's start."""
        key = name + _label_text(labels or {})
        at = self._known.get(key)
        if at is None:
            at = self._known[key] = self._append(key, count)
        return at

    def _append(self, key: str, count: int) -> int:
        (used,) = _HEADER.unpack_from(self._region)
        used = used or _HEADER.size
        name = key.encode()
        name += b"\0" * (-len(name) % 8)
        values = used + _ENTRY.size + len(name)
        end = values + 8 * count
        if end > len(self._region):
            # Too many series: what isn't shown must not stop the server. The last cells are a sink.
            return len(self._cells) - count
        _ENTRY.pack_into(self._region, used, len(name), count)
        self._region[used + _ENTRY.size : values] = name
        _HEADER.pack_into(self._region, 0, end)
        return values // 8

    def text(self) -> str:
        """All workers' numbers in Prometheus' text format."""
        return render(self._memory)


def _label_text(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _entries(region: memoryview) -> Iterator[tuple[str, int, int]]:
    """Each entry's key, where its values begin (in doubles), and how many they are."""
    (used,) = _HEADER.unpack_from(region)
    at = _HEADER.size
    while at < used:
        length, count = _ENTRY.unpack_from(region, at)
        at += _ENTRY.size
        yield bytes(region[at : at + length]).rstrip(b"\0").decode(), (at + length) // 8, count
        at += length + 8 * count


def render(memory: SharedMemory) -> str:
    """Everything counted, summed over the workers, in Prometheus' text format 0.0.4."""
    sums: dict[str, dict[str, list[float]]] = {}
    for worker in range(memory.workers):
        region = memory.region(worker)
        cells: memoryview[float] = region.cast("d")
        for key, at, count in _entries(region):
            name, brace, labels = key.partition("{")
            series = sums.setdefault(name, {})
            values = list(map(float, cells[at : at + count]))
            known = series.get(brace + labels)
            if known is None:
                series[brace + labels] = values
            elif METRICS[name].kind == "maximum":
                series[brace + labels] = [max(pair) for pair in zip(known, values, strict=True)]
            else:
                series[brace + labels] = [sum(pair) for pair in zip(known, values, strict=True)]
    lines: list[str] = []
    for name, series in sorted(sums.items()):
        metric = METRICS[name]
        kind = "gauge" if metric.kind == "maximum" else metric.kind
        lines += (f"# HELP {name} {metric.help}", f"# TYPE {name} {kind}")
        for labels, values in sorted(series.items()):
            lines += _lines(metric, labels, values)
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, labels: str, values: Sequence[float]) -> Iterator[str]:
    if metric.kind != "histogram":
        yield f"{metric.name}{labels} {_number(values[0])}"
        return
    inner = labels[1:-1] + "," if labels else ""
    total = 0.0
    for bound, count in zip([*map(_number, metric.buckets), "+Inf"], values[:-1], strict=True):
        total += count
        yield f'{metric.name}_bucket{{{inner}le="{bound}"}} {_number(total)}'
    yield f"{metric.name}_sum{labels} {_number(values[-1])}"
    yield f"{metric.name}_count{labels} {_number(total)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
