"""A real PostgreSQL, harmed in every way while predictions are logged: what was accepted arrives.

Each test compares the table with what was accepted: the same records, once each.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from stack_project import free_port

from dockyard_serve.predictions import postgres
from dockyard_serve.predictions.log import PredictionLog
from dockyard_serve.predictions.record import Record

pytestmark = [pytest.mark.docker, pytest.mark.network]


def docker(*arguments):
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


@pytest.fixture
def logs():
    opened = []

    def start(settings):
        opened.append(PredictionLog(settings))
        return opened[-1]

    yield start
    for log in opened:
        log.close()


class Load:
    """Predictions at a steady rate from a thread of their own, as a server would log them."""

    def __init__(self, log, pause=0.002):
        self.names = []
        self.slowest = 0.0
        self._log = log
        self._pause = pause
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._done.is_set():
            name = f"r{len(self.names)}"
            started = time.perf_counter()
            self._log.add(record(name))
            self.slowest = max(self.slowest, time.perf_counter() - started)
            self.names.append(name)
            time.sleep(self._pause)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def record(name, moment=None, **fields):
    return Record(
        time=moment or time.time(),
        request_id=name,
        status=200,
        latency_ms=1.5,
        model="m",
        version="1",
        **fields,
    )


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def arrived(database):
    query = "select request_id from dockyard.predictions order by writer, sequence"
    return [name for (name,) in database.query(query)]


def check(database, log, load, seconds=60):
    """Everything that was added was accepted, and is in the table once, in order."""
    assert log.flush()
    assert log.counts.dropped == 0
    assert log.counts.accepted == len(load.names)
    wait_for(lambda: log.counts.written == len(load.names), seconds)
    assert arrived(database) == load.names
    # Adding never waits for a database.
    assert load.slowest < 1.0


def test_predictions_are_in_the_table_with_all_that_was_said(database, logs, tmp_path):
    log = logs(database.settings(tmp_path))
    fields = {"inputs": '{"a": ["\\\\", "\\t"]}', "outputs": "[1]", "client": "::1"}
    log.add(record("one", stages={"queue": 0.25}, batch_rows=4, path="/p", **fields))
    wait_for(lambda: log.counts.written == 1)
    (row,) = database.query(
        "select model, version, path, status, latency_ms, (stages->>'queue')::float, batch_rows, "
        "inputs->'a'->>0, outputs->>0, client from dockyard.predictions"
    )
    assert row == ("m", "1", "/p", 200, 1.5, 0.25, 4, "\\", "1", "::1")
    assert log.waiting_bytes() == 0


@pytest.mark.slow
def test_a_database_that_is_stopped_and_started(own_database, logs, tmp_path):
    log = logs(own_database.settings(tmp_path))
    with Load(log) as load:
        wait_for(lambda: log.counts.written > 100)
        docker("stop", own_database.container)
        wait_for(lambda: log.waiting_bytes() > 50_000)
        docker("start", own_database.container)
        before = log.counts.written
        wait_for(lambda: log.counts.written > before)
    check(own_database, log, load)


@pytest.mark.slow
def test_a_database_that_is_killed(own_database, logs, tmp_path):
    log = logs(own_database.settings(tmp_path))
    with Load(log) as load:
        for _ in range(2):
            before = log.counts.written
            wait_for(lambda before=before: log.counts.written > before + 100)
            docker("kill", "--signal", "KILL", own_database.container)
            docker("start", own_database.container)
    own_database.wait()
    check(own_database, log, load)


@pytest.mark.slow
def test_a_database_with_a_new_password(own_database, logs, tmp_path, caplog):
    secret = tmp_path / "password"
    secret.write_text(own_database.environ["DB_PASSWORD"])
    log = logs(own_database.settings(tmp_path, DB_PASSWORD="", DB_PASSWORD_FILE=str(secret)))
    with Load(log) as load:
        wait_for(lambda: log.counts.written > 50)
        own_database.change("alter role \"user\" password 'another'")
        end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        local = ["exec", own_database.container, "psql", "-h", "/var/run/postgresql", "-U", "user"]
        docker(*local, "-d", "predictions", "-c", end)
        wait_for(lambda: "password authentication failed" in caplog.text)
        secret.write_text("another")
        wait_for(lambda: log.waiting_bytes() == 0)
        docker(*local, "-d", "predictions", "-c", "alter role \"user\" password 'correct horse'")
    check(own_database, log, load)


@pytest.mark.slow
def test_a_database_whose_disk_is_full(postgres_image, logs, tmp_path, caplog):
    from prediction_ground import start_database

    # Room for the cluster and little else.
    database = start_database(
        postgres_image,
        "--tmpfs",
        "/var/lib/postgresql/data:size=110m",
        "-e",
        "POSTGRES_INITDB_ARGS=--wal-segsize=1",
    )
    try:
        log = logs(database.settings(tmp_path))
        with Load(log) as load:
            wait_for(lambda: log.counts.written > 50)
            fill = ["exec", database.container, "sh", "-c"]
            path = "/var/lib/postgresql/data/filler"
            subprocess.run(
                ["docker", *fill, f"cat /dev/zero > {path}"], check=False, capture_output=True
            )
            wait_for(lambda: log.waiting_bytes() > 100_000)
            docker(*fill, f"rm {path}")
            wait_for(lambda: log.waiting_bytes() == 0)
        check(database, log, load)
    finally:
        docker("rm", "-f", "-v", database.container)


class Wire:
    """A way to the database that can be slow, or swallow everything without closing."""

    def __init__(self, port):
        self.delay = 0.0
        self.swallows = False
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source, sink):
        try:
            while data := source.recv(65536):
                time.sleep(self.delay)
                if not self.swallows:
                    sink.sendall(data)
        except OSError:
            pass
        if not self.swallows:
            for end in (source, sink):
                end.close()

    def close(self):
        self._listener.close()
        for end in self._open:
            end.close()


@pytest.fixture
def wire(database):
    found = Wire(database.port)
    yield found
    found.close()


@pytest.mark.slow
def test_a_network_that_is_cut_in_the_middle(database, wire, logs, tmp_path, monkeypatch):
    monkeypatch.setattr(postgres, "_HANGS_AFTER", 1.5)
    log = logs(database.settings(tmp_path, DB_PORT=str(wire.port)))
    with Load(log) as load:
        wait_for(lambda: log.counts.written > 100)
        wire.swallows = True
        wait_for(lambda: log.waiting_bytes() > 50_000)
        wire.swallows = False
        before = log.counts.written
        wait_for(lambda: log.counts.written > before)
    check(database, log, load)


@pytest.mark.slow
def test_a_database_that_is_slow(database, wire, logs, tmp_path):
    log = logs(database.settings(tmp_path, DB_PORT=str(wire.port)))
    with Load(log) as load:
        wait_for(lambda: log.counts.written > 10)
        wire.delay = 0.5
        before = log.counts.written
        wait_for(lambda: log.counts.written > before)
        time.sleep(2)
        wire.delay = 0.0
    check(database, log, load)


def test_a_batch_whose_commit_was_not_heard_of_is_not_written_twice(
    database, logs, tmp_path, monkeypatch
):
    real, heard = postgres._copy, []

    def copy_then_break(connection, lines):
        real(connection, lines)
        if not heard:
            heard.append(lines)
            # The transaction is committed by the server; the answer never comes.
            connection.execute("commit")
            connection.close()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(postgres, "_copy", copy_then_break)
    log = logs(database.settings(tmp_path))
    for number in range(500):
        log.add(record(f"r{number}"))
    assert log.flush()
    wait_for(lambda: log.waiting_bytes() == 0)
    assert heard
    assert log.counts.written == 500
    assert arrived(database) == [f"r{number}" for number in range(500)]


def test_what_the_database_refuses_is_put_aside_and_the_rest_arrives(database, logs, tmp_path):
    log = logs(database.settings(tmp_path))
    for number in range(100):
        log.add(record(f"r{number}", inputs='{"bad": \x01' if number in (13, 77) else "[1]"))
    wait_for(lambda: log.counts.written == 100)
    assert len(arrived(database)) == 98
    rejected = database.query("select sequence, reason from dockyard.rejected order by 1")
    assert [number for number, _ in rejected] == [14, 78]
    assert all("json" in reason for _, reason in rejected)


def test_predictions_of_a_process_that_died_are_brought_home_by_the_next(
    own_database, tmp_path, logs
):
    environ = {**own_database.environ, "LOG_DIR": str(tmp_path)}
    docker("stop", own_database.container)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("logging_app.py"), str(port)],
        env={"PATH": "/usr/bin:/bin", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process.stdout:
        assert process.stdout.readline() == b"listening\n"
        for number in range(100):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/predict",
                data=json.dumps({"x": number}).encode(),
                headers={"Content-Type": "application/json", "X-Request-Id": f"r{number}"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert json.loads(answer.read()) == {"double": 2 * number}
        # Records gather for a moment before they are written; only those may be lost.
        time.sleep(0.5)
        process.kill()
        process.wait()
    docker("start", own_database.container)
    own_database.wait()
    log = logs(own_database.settings(tmp_path))
    log.add(record("next"))
    wait_for(lambda: log.counts.written == 1)
    names = arrived(own_database)
    assert sorted(names) == sorted([*[f"r{number}" for number in range(100)], "next"])
    log.close()
    assert list((tmp_path / "prediction-spool").iterdir()) == []


def test_sigterm_brings_everything_to_the_database(database, tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("logging_app.py"), str(port)],
        env={"PATH": "/usr/bin:/bin", **database.environ, "LOG_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    with process.stdout:
        assert process.stdout.readline() == b"listening\n"
        for number in range(20):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/",
                data=b'{"x": 1}',
                headers={"X-Request-Id": f"r{number}"},
            )
            with urllib.request.urlopen(request, timeout=10):
                pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == -signal.SIGTERM
    assert sorted(arrived(database)) == sorted(f"r{number}" for number in range(20))


def test_a_schema_newer_than_the_program_is_told_and_left_alone(database, logs, tmp_path, caplog):
    first = logs(database.settings(tmp_path))
    first.add(record("one"))
    wait_for(lambda: first.counts.written == 1)
    database.change("insert into dockyard.schema_version (version) values (99)")
    second = logs(database.settings(tmp_path))
    second.add(record("two"))
    wait_for(lambda: "schema is of version 99" in caplog.text)
    assert arrived(database) == ["one"]
    database.change("delete from dockyard.schema_version where version = 99")
    wait_for(lambda: second.counts.written == 1)


def test_days_are_partitions_and_old_ones_go(database, logs, tmp_path):
    today = datetime.now(UTC)
    log = logs(database.settings(tmp_path, PREDICTION_LOG_RETENTION_DAYS="10"))
    for days in (0, 1, 5, 12):
        log.add(record(f"d{days}", (today - timedelta(days=days)).timestamp()))
    wait_for(lambda: log.counts.written == 4)
    wait_for(lambda: sorted(arrived(database)) == ["d0", "d1", "d5"])
    (plan,) = database.query(
        "explain (format json) select 1 from dockyard.predictions "
        f"where time >= '{today:%Y-%m-%d} 00:00+00' and time < '{today:%Y-%m-%d} 23:59+00'"
    )
    assert f"predictions_{today:%Y%m%d}" in json.dumps(plan)
    assert f"predictions_{today - timedelta(days=5):%Y%m%d}" not in json.dumps(plan)


def test_many_processes_may_begin_at_once(database, tmp_path):
    script = (
        "import sys, time\n"
        "from dockyard_serve.predictions import open_log, Record\n"
        "log = open_log()\n"
        "for n in range(50):\n"
        "    log.add(Record(time=time.time(), request_id=f'{sys.argv[1]}-{n}', status=200,"
        " latency_ms=1))\n"
        "log.close()\n"
    )
    environ = {"PATH": "/usr/bin:/bin", **database.environ, "LOG_DIR": str(tmp_path)}
    environ["PREDICTION_LOG_GRACE"] = "20"
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(number)], env=environ)
        for number in range(6)
    ]
    assert [child.wait(60) for child in children] == [0] * 6
    found = arrived(database)
    assert sorted(found) == sorted(f"{child}-{n}" for child in range(6) for n in range(50))
