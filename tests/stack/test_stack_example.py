"""examples/stack from start to end: what was sent is in PostgreSQL and in Prometheus, once each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dockyard.stack.monitoring import monitoring_files

EXAMPLE = Path(__file__).parents[2] / "examples" / "stack"


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.slow
def test_every_prediction_is_in_the_database_and_counted_by_prometheus(
    compose_program, postgres_image, prometheus_image
):
    environment = os.environ | {
        "DOCKYARD": str(Path(sys.executable).with_name("dockyard")),
        "DOCKYARD_COMPOSE": compose_program,
        "POSTGRES_IMAGE": postgres_image,
        "PROMETHEUS_IMAGE": prometheus_image,
        "PICTURES": "2000",
    }
    done = subprocess.run(
        [EXAMPLE / "verify"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2000 pictures sent, 2000 in the database, 2000 in Prometheus" in done.stdout


@pytest.mark.docker
@pytest.mark.network
def test_promtool_accepts_what_is_written_for_prometheus(prometheus_image, tmp_path):
    for path, text in monitoring_files(port=8080, grafana=True).items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    folder = tmp_path / "prometheus"
    tool = ["docker", "run", "--rm", "-v", f"{folder}:/etc/prometheus:ro", "--entrypoint"]
    done = subprocess.run(
        [*tool, "promtool", prometheus_image, "check", "config", "/etc/prometheus/prometheus.yml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 rules found" in done.stdout + done.stderr


def test_grafana_s_files_name_each_other():
    files = monitoring_files(port=8080, grafana=True)
    dashboard = json.loads(files["grafana/dashboards/predictions.json"])
    (source,) = yaml.safe_load(files["grafana/provisioning/datasources/prometheus.yml"])[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load(files["grafana/provisioning/dashboards/files.yml"])["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_every_metric_that_is_watched_is_exported():
    import re

    from dockyard_serve.metrics import METRICS

    text = "".join(monitoring_files(port=8080, grafana=True).values())
    named = set(re.findall(r"dockyard_\w+?(?=_bucket|_sum\b|_count\b|[^\w])", text))
    assert named
    assert named <= set(METRICS)
