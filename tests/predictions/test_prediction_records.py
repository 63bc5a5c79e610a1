"""Records, their lines, what is kept of bodies, the spool and SQLite: all without a database."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard_serve.predictions.content import kept
from dockyard_serve.predictions.log import PredictionLog, metrics_text, open_log
from dockyard_serve.predictions.record import COLUMNS, Record, copy_line, is_whole, read_line
from dockyard_serve.predictions.settings import SettingsError, password, read_settings
from dockyard_serve.predictions.spool import Spool, SpoolFull, left_behind
from dockyard_serve.predictions.sqlite import SchemaTooNew, open_database, row_of, tidy, write_rows

WRITER = "7d8226ec-6180-4b4d-a31f-abbeb1dc118e"
LIMIT = 1 << 20

text = st.text(max_size=30)


@given(text, st.none() | text, st.none() | text, st.floats(0, 4e9))
def test_a_line_says_what_the_record_said(request_id, model, inputs, moment):
    record = Record(
        time=moment, request_id=request_id, status=200, latency_ms=1.25, model=model, inputs=inputs
    )
    line = copy_line(record, WRITER, 7)
    assert is_whole(line)
    assert line.count(b"\n") == 1
    found = read_line(line)
    assert tuple(found) == COLUMNS
    # PostgreSQL's text has no NUL characters, and UTF-8 no lone surrogates.
    clean = [
        None if value is None else value.replace("\0", "").encode("utf-8", "replace").decode()
        for value in (request_id, model, inputs)
    ]
    assert [found["request_id"], found["model"], found["inputs"]] == clean
    assert (found["sequence"], found["status"], found["latency_ms"]) == ("7", "200", "1.250")


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_line_is_no_record(cut):
    line = copy_line(Record(time=0, request_id="a" * 200, status=1, latency_ms=1), WRITER, 1)
    assert not is_whole(line[:-cut])


# Body, media type, mode, what is kept
KEPT = [
    (b' {"a": [1, 2]} ', "application/json", "whole", '{"a": [1, 2]}'),
    (b'{"a": "' + b"x" * 200 + b'"}', "application/json", "whole", "summary"),
    (b"{not json", "application/json", "whole", "digest"),
    (b"\x89PNG\r\n", "image/png", "whole", "digest"),
    (b'{"a": NaN}', "application/json", "whole", '{"a":"nan"}'),
    (b'{"a": "\\u0000b"}', "application/json", "whole", '{"a":"\\ufffdb"}'),
    (b'{"a": "\\ud800"}', "application/json", "whole", '{"a":"?"}'),
    (b"[" * 100_000, "application/json", "whole", "digest"),
    (b"\xff\xfe", "", "whole", "digest"),
    (b'{"a": 1}', "application/json", "digest", "digest"),
    (b'{"a": 1}', "application/x-www-form-urlencoded", "whole", '{"a": 1}'),
    (b"a=1&b=2", "application/x-www-form-urlencoded", "whole", "digest"),
    (b'{"a": 1}', "application/json", "none", None),
    (b"", "application/json", "whole", None),
    (
        b'{"image": [[0, 1], [2, 5]], "id": 7}',
        "application/json; charset=utf-8",
        "summary",
        {"image": {"$shape": [2, 2], "min": 0, "max": 5, "mean": 2.0}, "id": 7},
    ),
    (
        b"[[1], [2, 3]]",
        "application/json",
        "summary",
        {"$length": 2, "$first": {"$shape": [1], "min": 1, "max": 1, "mean": 1.0}},
    ),
    (b'["a", "b"]', "application/json", "summary", {"$length": 2, "$first": "a"}),
]


@pytest.mark.parametrize(("body", "kind", "mode", "expected"), KEPT, ids=range(len(KEPT)))
def test_keeps_as_much_of_a_body_as_is_asked_for(body, kind, mode, expected):
    found = kept(body, kind, mode, max_bytes=100)
    if expected == "digest":
        assert set(json.loads(found)) == {"$sha256", "$bytes", "$type"}
    elif expected == "summary" or isinstance(expected, dict):
        read = json.loads(found)
        assert read["$bytes"] == len(body)
        assert expected in ("summary", read["$summary"])
    else:
        assert found == expected


@pytest.mark.parametrize("mode", ["whole", "summary"])
def test_redacted_fields_are_in_no_mode(mode):
    body = json.dumps(
        {"user": {"email": "secret-1", "name": "n"}, "list": [{"password": "secret-2"}], "x": 1}
    ).encode()
    names = ["password", "user.email"]
    found = kept(body, "application/json", mode, max_bytes=1000, redact=names)
    assert "secret" not in found
    assert found.count("[redacted]") == 2
    assert '"n"' in found


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_whatever_a_body_is_the_result_is_json_that_a_database_takes(body):
    for mode in ("whole", "summary", "digest"):
        found = kept(body, "application/json", mode, max_bytes=50)
        if found is not None:
            json.loads(found, parse_constant=lambda name: pytest.fail(name))
            assert "\\u0000" not in found
            found.encode("utf-8")


def lines(first, count):
    made = (
        Record(time=1e9 + n, request_id=f"r{n}", status=200, latency_ms=1)
        for n in range(first, first + count)
    )
    return b"".join(copy_line(item, WRITER, n) for n, item in enumerate(made, first))


def test_what_is_spooled_is_read_in_order_and_forgotten_when_it_has_arrived(tmp_path, monkeypatch):
    monkeypatch.setattr("dockyard_serve.predictions.spool._SEGMENT", 1000)
    spool = Spool.new(tmp_path, limit=LIMIT)
    for first in range(1, 101, 10):
        spool.append(lines(first, 10), first)
    assert len(list(spool.folder.glob("*.copy"))) > 3
    arrived, seen = 0, b""
    while block := spool.read(arrived, most=700):
        assert block.first == arrived + 1
        seen += block.data
        arrived = block.last
        spool.forget(arrived)
    assert seen == lines(1, 100)
    assert len(list(spool.folder.glob("*.copy"))) == 1
    spool.close(arrived=arrived)
    assert not spool.folder.exists()


def test_a_line_longer_than_a_block_is_read_whole(tmp_path):
    spool = Spool.new(tmp_path, limit=LIMIT)
    record = Record(time=0, request_id="a" * 5000, status=200, latency_ms=1)
    spool.append(copy_line(record, WRITER, 1) + lines(2, 1), 1)
    assert spool.read(0, most=100).last == 1
    assert spool.read(1, most=100).last == 2


def test_a_spool_left_behind_is_found_once_and_without_its_torn_end(tmp_path):
    spool = Spool.new(tmp_path, limit=LIMIT)
    spool.append(lines(1, 5), 1)
    assert list(left_behind(tmp_path, limit=LIMIT)) == []
    os.close(spool._lock_file)  # As the end of its process does.
    (file,) = spool.folder.glob("*.copy")
    with file.open("ab") as out:
        out.write(lines(6, 1)[:-10])
    (found,) = left_behind(tmp_path, limit=LIMIT)
    assert (found.last, found.read(0, most=LIMIT).data) == (5, lines(1, 5))
    found.close(arrived=3)
    (again,) = left_behind(tmp_path, limit=LIMIT)
    assert again.read(3, most=LIMIT).first == 4
    again.close(arrived=5)
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_takes_nothing_and_loses_nothing(tmp_path):
    spool = Spool.new(tmp_path, limit=len(lines(1, 5)))
    spool.append(lines(1, 5), 1)
    with pytest.raises(SpoolFull):
        spool.append(lines(6, 1), 6)
    assert spool.read(0, most=LIMIT).last == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_full_spool(tmp_path, monkeypatch):
    spool = Spool.new(tmp_path, limit=LIMIT)
    spool.append(lines(1, 1), 1)
    real, spool._file = spool._file, os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "ftruncate", lambda *_: None)
    with pytest.raises(SpoolFull):
        spool.append(lines(2, 1), 2)
    os.close(spool._file)
    spool._file = real
    assert spool.last == 1


# Environment, what is wrong with it
WRONG = [
    ({"PREDICTION_LOG": "mysql"}, "PREDICTION_LOG is 'mysql'"),
    ({"PREDICTION_LOG": "postgres"}, "neither DATABASE_URL nor DB_HOST"),
    ({"PREDICTION_LOG": "sqlite"}, "LOG_DIR isn't set"),
    ({"PREDICTION_LOG_INPUTS": "all"}, "PREDICTION_LOG_INPUTS is 'all'"),
    ({"PREDICTION_LOG_MAX_BYTES": "1k"}, "whole number"),
    ({"PREDICTION_LOG_RETENTION_DAYS": "-1"}, "whole number"),
]


@pytest.mark.parametrize(("environ", "message"), WRONG, ids=[row[1] for row in WRONG])
def test_names_the_variable_that_is_wrong_and_logs_nothing(environ, message, caplog):
    with pytest.raises(SettingsError, match=message):
        read_settings(environ)
    assert open_log(environ).enabled is False
    assert message in caplog.text


def test_where_predictions_go_is_said_by_the_environment(tmp_path):
    assert read_settings({}).target == "off"
    assert read_settings({"LOG_DIR": "/x"}).target == "sqlite"
    assert read_settings({"LOG_DIR": "/x", "DB_HOST": "db"}).target == "postgres"
    assert read_settings({"DB_HOST": "db", "PREDICTION_LOG": "off"}).target == "off"
    url = read_settings({"DATABASE_URL": "postgresql+psycopg://u:p@h/d"})
    assert url.conninfo == {"conninfo": "postgresql://u:p@h/d"}
    secret = tmp_path / "password"
    secret.write_text("one\n")
    settings = read_settings({"DB_HOST": "db", "DB_PASSWORD_FILE": str(secret)})
    assert password(settings) == "one"
    secret.write_text("two\n")
    assert password(settings) == "two"


def logged(folder):
    with sqlite3.connect(folder / "predictions.sqlite") as connection:
        return connection.execute("select request_id, status from predictions").fetchall()


def record(name="r", status=200, moment=None):
    return Record(time=moment or time.time(), request_id=name, status=status, latency_ms=1.0)


def test_without_a_database_predictions_are_in_a_file_of_the_log_folder(tmp_path):
    log = PredictionLog(read_settings({"LOG_DIR": str(tmp_path)}))
    for number in range(1000):
        log.add(record(f"r{number}"))
    log.add(lambda: record("late"))
    log.add(lambda: 1 / 0)
    assert log.flush()
    assert len(logged(tmp_path)) == 1001
    assert (log.counts.accepted, log.counts.dropped) == (1001, 1)
    assert "dockyard_prediction_log_written_total 1001\n" in metrics_text(log)
    log.close()
    log.close()


def _log_some(folder, log, count):
    for number in range(count):
        log.add(record(f"{os.getpid()}-{number}"))
    log.close()


def test_processes_that_were_forked_share_the_file(tmp_path):
    log = PredictionLog(read_settings({"LOG_DIR": str(tmp_path)}))
    log.add(record("parent"))
    assert log.flush()
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_log_some, args=(tmp_path, log, 200)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    log.close()
    assert len(logged(tmp_path)) == 601


def test_a_folder_that_cannot_be_written_is_told_and_does_no_harm(tmp_path, caplog):
    (tmp_path / "file").touch()
    log = PredictionLog(read_settings({"LOG_DIR": str(tmp_path / "file")}))
    log.add(record())
    assert not log.flush(timeout=0.5)
    log.close()
    assert "predictions can't be written" in caplog.text
    assert log.counts.dropped == 1


def test_a_file_of_a_newer_program_is_left_alone(tmp_path):
    path = tmp_path / "predictions.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(SchemaTooNew, match="version 99"):
        open_database(path)


def test_old_predictions_are_removed_when_their_time_is_over(tmp_path):
    connection = open_database(tmp_path / "x.sqlite")
    write_rows(connection, [row_of(record(moment=1e9), WRITER, n) for n in range(3)])
    tidy(connection, 0)
    assert connection.execute("select count(*) from predictions").fetchone() == (3,)
    tidy(connection, 30, datetime(2001, 9, 20, tzinfo=UTC))
    assert connection.execute("select count(*) from predictions").fetchone() == (3,)
    tidy(connection, 30)
    assert connection.execute("select count(*) from predictions").fetchone() == (0,)
    connection.close()
