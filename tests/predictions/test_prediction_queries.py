"""`dockyard predictions` and the reader behind it, and the server's own log."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, datetime

import pytest

from dockyard.cli.main import run_command_line
from dockyard_serve.predictions import PredictionLog, Record
from dockyard_serve.predictions.__main__ import main
from dockyard_serve.predictions.query import (
    Filters,
    QueryError,
    parse_moment,
    parse_status,
    read_log,
)
from dockyard_serve.predictions.served import ServedLog
from dockyard_serve.predictions.settings import read_settings
from dockyard_serve.serving import AnsweredBy

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def fill(settings):
    log = PredictionLog(settings)
    for number in range(10):
        log.add(
            Record(
                time=NOW.timestamp() - 60 * number,
                request_id=f"r{number}",
                status=500 if number == 3 else 200,
                latency_ms=1.5,
                model="digits" if number % 2 else "faces",
                version="1",
                inputs='{"x": [1]}',
                outputs="not JSON" if settings.target == "sqlite" and number == 5 else "[2]",
            )
        )
    assert log.flush()
    deadline = time.monotonic() + 30
    while log.counts.written < 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    log.close()
    return settings


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=[pytest.mark.docker, pytest.mark.network])]
)
def filled(request, tmp_path):
    if request.param == "sqlite":
        return fill(read_settings({"LOG_DIR": str(tmp_path)}))
    return fill(request.getfixturevalue("database").settings(tmp_path))


# Filters, the records that match
WANTED = [
    (Filters(), list(range(10))),
    (Filters(limit=2), [0, 1]),
    (Filters(model="digits"), [1, 3, 5, 7, 9]),
    (Filters(model="digits", version="2"), []),
    (Filters(statuses=(400, 599)), [3]),
    (Filters(request_id="r7"), [7]),
    (Filters(since=parse_moment("3m", NOW)), [0, 1, 2, 3]),
    (Filters(until=parse_moment("2026-11-24T11:53", NOW)), [8, 9]),
    (Filters(request_id="x' or '1'='1"), []),
]


def test_reads_the_records_that_match_newest_first(filled):
    for filters, numbers in WANTED:
        found = [record["request_id"] for record in read_log(filled, filters)]
        assert found == [f"r{number}" for number in numbers], filters
    first = next(iter(read_log(filled, Filters(limit=1))))
    assert first["time"] == "2026-11-24T12:00:00.000+00:00"
    assert (first["inputs"], first["outputs"]) == ({"x": [1]}, [2])


@pytest.mark.docker
@pytest.mark.network
def test_a_log_that_has_no_table_yet_has_no_records(database, tmp_path):
    assert list(read_log(read_settings({"LOG_DIR": str(tmp_path)}), Filters())) == []
    assert list(read_log(database.settings(tmp_path), Filters())) == []


@pytest.mark.parametrize("text", ["9", "2xxx", "200-300", "ok"])
def test_refuses_a_status_that_is_none(text):
    with pytest.raises(QueryError, match="is no status"):
        parse_status(text)


@pytest.mark.parametrize("text", ["yesterday", "5", "5w", "2026-13-01", "99999999d"])
def test_refuses_a_time_that_is_none(text):
    with pytest.raises(QueryError, match="is no time"):
        parse_moment(text)


def test_statuses_and_times_are_read_as_people_write_them():
    assert [parse_status(text) for text in ("200", "5xx", "error")] == [
        (200, 200),
        (500, 599),
        (400, 599),
    ]
    assert parse_moment("2h", NOW) == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert parse_moment("2026-11-24") == datetime(2026, 11, 24, tzinfo=UTC)
    assert parse_moment("2026-11-24T12:00+02:00") == datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_prints_a_table_json_and_csv(tmp_path, capsys):
    fill(read_settings({"LOG_DIR": str(tmp_path)}))
    folder = ["--log-dir", str(tmp_path)]
    assert run_command_line(["predictions", *folder, "-n", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TIME", "MODEL", "VERSION", "STATUS", "LATENCY", "OUTPUTS"]
    assert len(lines) == 4
    assert run_command_line(["predictions", *folder, "--json", "--status", "5xx"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (record["request_id"], record["inputs"]) == ("r3", {"x": [1]})
    assert run_command_line(["predictions", *folder, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["request_id"] for row in rows] == [f"r{number}" for number in range(10)]
    assert json.loads(rows[0]["inputs"]) == {"x": [1]}
    assert run_command_line(["predictions", *folder, "--model", "none"]) == 0
    assert capsys.readouterr().err == "No predictions match.\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--json", "--csv"], 2, "exclude each other"),
        (["--url", "postgresql://x", "--log-dir", "x"], 2, "exclude each other"),
        (["--log-dir", ".", "--since", "soon"], 1, "'soon' is no time"),
        (["--url", "postgresql://127.0.0.1:1/none"], 1, "can't be read"),
    ],
    ids=["two formats", "two places", "no time", "no database"],
)
def test_says_why_predictions_cannot_be_listed(words, code, message, capsys):
    assert run_command_line(["predictions", *words]) == code
    assert message in capsys.readouterr().err


def test_the_reader_in_a_container_prints_lines_of_json(tmp_path, monkeypatch, capsys):
    fill(read_settings({"LOG_DIR": str(tmp_path)}))
    monkeypatch.setenv("LOG_DIR", str(tmp_path))
    assert main(["--limit=2", "--model=digits"]) == 0
    found = [json.loads(line)["request_id"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["r1", "r3"]
    assert main(["--status=bad"]) == 1
    assert "is no status" in capsys.readouterr().err
    monkeypatch.delenv("LOG_DIR")
    assert main([]) == 1
    assert "neither a database nor LOG_DIR" in capsys.readouterr().err


class Answered:
    """An exchange of the server after its answer."""

    def __init__(self, about):
        self.about = about
        self.head = type("Head", (), {"target": "/predict?x=1", "headers": {}})()
        self.body, self.answer, self.media_type = b'{"x": 1}', b"[2]", b"application/json"
        self.received = time.perf_counter() - 0.01
        self.status, self.id = 200, "abc"


def test_the_server_records_what_a_model_answered_and_nothing_else(tmp_path):
    settings = read_settings({"LOG_DIR": str(tmp_path)})
    log = PredictionLog(settings)
    served = ServedLog(log)
    now = time.perf_counter()
    job = type("Job", (), {"queued": now - 0.009, "began": now - 0.008, "ended": now - 0.002})()
    served.record(Answered(AnsweredBy("digits", "3", job)))
    served.record(Answered(None))
    served.close()
    (record,) = read_log(settings, Filters())
    assert (record["model"], record["version"], record["path"]) == ("digits", "3", "/predict")
    assert (record["inputs"], record["outputs"]) == ({"x": 1}, [2])
    assert set(record["stages"]) == {"preprocess", "queue", "inference", "postprocess"}
    assert record["stages"]["inference"] == pytest.approx(6.0, abs=0.01)
    assert record["latency_ms"] >= 10
