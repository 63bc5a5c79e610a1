"""Files for Prometheus and Grafana: what is scraped, when to raise an alarm, and a dashboard.

Rules: the metrics are those that `dockyard_serve` exports. Text is made here, written elsewhere;
`promtool` checks it in the tests.
"""

from __future__ import annotations

import json
from typing import Any

_PROMETHEUS = """\
# What Prometheus scrapes, and how often. https://prometheus.io/docs/prometheus/latest/configuration
global:
  scrape_interval: 5s
  evaluation_interval: 15s

rule_files:
  - alerts.yml

scrape_configs:
  - job_name: web
    metrics_path: /metrics
    # One address for each replica: Compose's own name server lists them all.
    dns_sd_configs:
      - names: [web]
        type: A
        port: {port}
        refresh_interval: 5s

  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:9090"]
"""

_ALERTS = """\
# When to raise an alarm. Each rule says what it means and what to look at first.
groups:
  - name: web
    rules:
      - alert: WebDown
        expr: up{job="web"} == 0
        for: 1m
        labels: {severity: critical}
        annotations:
          summary: "{{ $labels.instance }} doesn't answer"
          description: "See its last lines: dockyard stack logs web"

      - alert: WebErrors
        expr: |
          sum by (model) (rate(dockyard_requests_total{code=~"5.."}[5m]))
            / sum by (model) (rate(dockyard_requests_total[5m])) > 0.02
        for: 5m
        labels: {severity: critical}
        annotations:
          summary: "{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} fail"
          description: "See which: dockyard predictions --status error --since 15m"

      - alert: WebSlow
        expr: |
          histogram_quantile(0.99,
            sum by (le, model) (rate(dockyard_request_duration_seconds_bucket[5m]))) > 1
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: "1 % of the requests to {{ $labels.model }} take {{ $value | humanizeDuration }}"
          description: "Queue and inference are apart on the dashboard: add replicas, or a GPU."

      - alert: WebQueueFull
        expr: dockyard_queue_depth / dockyard_queue_capacity > 0.8
        for: 2m
        labels: {severity: warning}
        annotations:
          summary: "the queue of {{ $labels.model }} is {{ $value | humanizePercentage }} full"
          description: "Requests will be refused with 503: add replicas, or allow larger batches."

      - alert: GpuMemoryFull
        expr: dockyard_gpu_memory_used_bytes / dockyard_gpu_memory_total_bytes > 0.95
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: "GPU {{ $labels.gpu }} uses {{ $value | humanizePercentage }} of its memory"
          description: "See who holds it: nvidia-smi"

  - name: prediction-log
    rules:
      - alert: PredictionLogBehind
        expr: dockyard_prediction_log_spool_bytes / dockyard_prediction_log_spool_limit_bytes > 0.5
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: "predictions wait on disk and fill {{ $value | humanizePercentage }} of it"
          description: "The database is down, slow or full: dockyard stack logs db"

      - alert: PredictionLogDrops
        expr: increase(dockyard_prediction_log_dropped_total[5m]) > 0
        labels: {severity: critical}
        annotations:
          summary: "{{ $value | humanize }} predictions weren't kept"
          description: "The spool is full. Bring the database back, or give the spool more room."
"""

_SOURCE = """\
# Where Grafana finds the metrics.
apiVersion: 1
datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: http://prometheus:9090
    isDefault: true
    jsonData: {timeInterval: 5s}
"""

_DASHBOARDS = """\
# Dashboards are read from files, and changes to the files show within half a minute.
apiVersion: 1
providers:
  - name: dockyard
    type: file
    updateIntervalSeconds: 30
    options: {path: /var/lib/grafana/dashboards}
"""

_RATE = "sum by (model, version) (rate(dockyard_requests_total[1m]))"
_ERRORS = 'sum by (code) (rate(dockyard_requests_total{code!~"2.."}[1m]))'
_BATCH = (
    "sum by (model) (rate(dockyard_batch_size_sum[1m]))"
    " / sum by (model) (rate(dockyard_batch_size_count[1m]))"
)

# Title, unit, (query, legend)…
_PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Requests", "reqps", ((_RATE, "{{model}} {{version}}"),)),
    ("Answers that aren't 2xx", "reqps", ((_ERRORS, "{{code}}"),)),
    (
        "Latency",
        "s",
        tuple(
            (
                f"histogram_quantile({quantile}, sum by (le) "
                "(rate(dockyard_request_duration_seconds_bucket[1m])))",
                name,
            )
            for quantile, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
        ),
    ),
    (
        "Where the time goes",
        "s",
        (
            (
                "sum by (stage) (rate(dockyard_stage_duration_seconds_sum[1m]))"
                " / sum by (stage) (rate(dockyard_stage_duration_seconds_count[1m]))",
                "{{stage}}",
            ),
        ),
    ),
    ("Batch size", "none", ((_BATCH, "{{model}}"),)),
    ("Queue", "none", (("dockyard_queue_depth", "{{model}}"),)),
    ("GPU memory", "bytes", (("dockyard_gpu_memory_used_bytes", "GPU {{gpu}}"),)),
    (
        "Predictions waiting on disk",
        "bytes",
        (("dockyard_prediction_log_spool_bytes", "{{instance}}"),),
    ),
)


def monitoring_files(*, port: int, grafana: bool) -> dict[str, str]:
    """The files by their path below the folder of monitoring; port: where the app listens."""
    files = {
        "prometheus/prometheus.yml": _PROMETHEUS.format(port=port),
        "prometheus/alerts.yml": _ALERTS,
    }
    if grafana:
        files |= {
            "grafana/provisioning/datasources/prometheus.yml": _SOURCE,
            "grafana/provisioning/dashboards/files.yml": _DASHBOARDS,
            "grafana/dashboards/predictions.json": json.dumps(_dashboard(), indent=2) + "\n",
        }
    return files


def _dashboard() -> dict[str, Any]:
    """Grafana's JSON model of a dashboard: two panels to a row."""
    panels = [
        {
            "id": number + 1,
            "title": title,
            "type": "timeseries",
            "datasource": {"type": "prometheus", "uid": "prometheus"},
            "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
                for index, (query, legend) in enumerate(queries)
            ],
        }
        for number, (title, unit, queries) in enumerate(_PANELS)
    ]
    return {
        "uid": "dockyard-predictions",
        "title": "Predictions",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": panels,
    }
