"""The two lines in an app: what is logged, and that the app and its client notice nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from stack_project import free_port

from dockyard_serve.predictions import PredictionLog, log_predictions
from dockyard_serve.predictions.settings import read_settings

BODY = b'{"x": 4}'


@pytest.fixture
def log(tmp_path):
    found = PredictionLog(read_settings({"LOG_DIR": str(tmp_path)}))
    yield found
    found.close()


def rows(log):
    assert log.flush()
    with sqlite3.connect(log.settings.database_file) as connection:
        connection.row_factory = sqlite3.Row
        query = "select * from predictions order by sequence"
        return [dict(row) for row in connection.execute(query)]


def call(app, method="POST", path="/predict", body=BODY, **environ):
    import io

    settings = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "PATH_INFO": path,
        "CONTENT_TYPE": "application/json",
        "wsgi.input": io.BytesIO(body),
        "REMOTE_ADDR": "10.0.0.9",
        **environ,
    }
    if method != "GET":
        settings["CONTENT_LENGTH"] = str(len(body))
    setup_testing_defaults(settings)
    said = {}

    def start_response(status, headers, exc_info=None):
        said.update(status=status, headers=dict(headers))
        return lambda data: None

    answer = validator(app)(settings, start_response)
    data = b"".join(answer)
    answer.close()
    return said, data


def double(environ, start_response):
    data = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"double": ', str(2 * data["x"]).encode(), b"}"]


def test_a_wsgi_request_and_its_answer_are_logged(log):
    app = log_predictions(double, log=log, model="doubler", version="3")
    said, data = call(app, HTTP_X_REQUEST_ID="mine-1")
    assert data == b'{"double": 8}'
    assert said["headers"]["X-Request-Id"] == "mine-1"
    (row,) = rows(log)
    assert {key: row[key] for key in ("request_id", "model", "version", "path", "status")} == {
        "request_id": "mine-1",
        "model": "doubler",
        "version": "3",
        "path": "/predict",
        "status": 200,
    }
    assert (row["inputs"], row["outputs"]) == ('{"x": 4}', '{"double": 8}')
    assert row["client"] == "10.0.0.9"
    assert 0 < row["latency_ms"] < 10_000


def test_what_has_no_body_is_not_a_prediction(log):
    def page(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    assert call(log_predictions(page, log=log), "GET", "/")[1] == b"hello"
    assert log.flush()
    assert log.counts.accepted == 0


def test_a_request_id_that_could_do_harm_is_replaced(log):
    app = log_predictions(double, log=log)
    said, _ = call(app, HTTP_X_REQUEST_ID="a\r\nSet-Cookie: x")
    assert len(said["headers"]["X-Request-Id"]) == 32


def test_an_app_that_fails_is_logged_as_500_and_fails_as_before(log):
    def broken(environ, start_response):
        raise LookupError("no model")

    with pytest.raises(LookupError):
        call(log_predictions(broken, log=log))
    assert [row["status"] for row in rows(log)] == [500]


def test_prometheus_is_answered_with_what_was_counted(log):
    app = log_predictions(double, log=log, model='a"b', version="1")
    for _ in range(3):
        call(app)
    _, text = call(app, "GET", "/metrics", b"")
    assert b'dockyard_requests_total{model="a\\"b",version="1",code="200"} 3\n' in text
    assert b'dockyard_request_duration_seconds_count{model="a\\"b",version="1"} 3\n' in text
    assert b"dockyard_prediction_log_dropped_total 0\n" in text
    own = log_predictions(lambda e, s: (s("404 Not Found", []), [b""])[1], log=log, metrics=False)
    said, _ = call_plain(own, "GET", "/metrics")
    assert said["status"] == "404 Not Found"


def call_plain(app, method, path):
    said = {}
    answer = app(
        {"REQUEST_METHOD": method, "PATH_INFO": path},
        lambda status, headers, *rest: said.update(status=status),
    )
    return said, b"".join(answer)


def test_names_the_model_after_its_file(log, tmp_path, monkeypatch):
    model = tmp_path / "digits.h5"
    model.write_bytes(b"weights")
    monkeypatch.setenv("MODEL_PATH", str(model))
    call(log_predictions(double, log=log))
    (row,) = rows(log)
    # The beginning of what `printf weights | sha256sum` prints.
    assert (row["model"], row["version"]) == ("digits", "9a129038d9a0")


def ask_asgi(app, method="POST", path="/predict", parts=(BODY,), headers=()):
    sent = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("10.0.0.9", 5),
    }
    asyncio.run(app(scope, receive, send))
    return sent


async def asgi_double(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    answer = json.dumps({"double": 2 * json.loads(body)["x"]}).encode()
    start = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": answer[:3], "more_body": True})
    await send({"type": "http.response.body", "body": answer[3:]})


def test_an_asgi_request_and_its_answer_are_logged(log):
    app = log_predictions(asgi_double, log=log, model="doubler")
    sent = ask_asgi(app, parts=(BODY[:3], BODY[3:]), headers=[(b"x-request-id", b"mine-2")])
    assert b"".join(message.get("body", b"") for message in sent) == b'{"double": 8}'
    assert dict(sent[0]["headers"])[b"x-request-id"] == b"mine-2"
    (row,) = rows(log)
    assert (row["request_id"], row["inputs"], row["outputs"]) == (
        "mine-2",
        '{"x": 4}',
        '{"double": 8}',
    )
    text = ask_asgi(app, "GET", "/metrics", (b"",))[1]["body"]
    assert b"dockyard_requests_total" in text


def test_an_asgi_app_that_fails_is_logged_once(log):
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LookupError("no model")

    class App:
        async def __call__(self, scope, receive, send):
            await broken(scope, receive, send)

    with pytest.raises(LookupError):
        ask_asgi(log_predictions(App(), log=log))
    assert len(rows(log)) == 1


def test_a_server_that_ends_in_order_closes_the_log(log):
    async def lifespan(scope, receive, send):
        await send({"type": "lifespan.shutdown.complete"})

    ask_asgi(log_predictions(asgi_double, log=log))
    app = log_predictions(lifespan, log=log)
    asyncio.run(app({"type": "lifespan"}, None, lambda message: asyncio.sleep(0)))
    assert log.counts.accepted == 1
    assert log._thread is None


def start_app(port, **environ):
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("logging_app.py"), str(port)],
        env={"PATH": "/usr/bin:/bin", **environ},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"listening\n"
    return process


def post(port, number):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        data=json.dumps({"x": number}).encode(),
        headers={"Content-Type": "application/json", "X-Request-Id": f"r{number}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_sigterm_loses_nothing_that_was_answered(tmp_path):
    port = free_port()
    process = start_app(port, LOG_DIR=str(tmp_path))
    for number in range(50):
        assert post(port, number) == {"double": 2 * number}
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    process.stdout.close()
    with sqlite3.connect(tmp_path / "predictions.sqlite") as connection:
        found = connection.execute("select request_id from predictions").fetchall()
    assert {name for (name,) in found} == {f"r{number}" for number in range(50)}
