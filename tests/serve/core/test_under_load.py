"""Load and faults: what is accepted is answered, whatever dies, stops, or is swapped meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
from load import clients

INFER = "/v2/models/scale/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
).encode()


def outputs(body):
    return json.dumps(json.loads(body).get("outputs", [{}])[0].get("data")).encode()


def until(condition, within=20.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_request(start_server, scale_model, workers):
    server = start_server(scale_model, "--workers", str(workers), "--grace", "8")
    with clients(server.port, 12, INFER, BODY, keep=outputs) as seen:
        until(lambda: seen.statuses[200] > 200)
        assert server.stop() == 0
    assert seen.lost == []
    assert set(seen.statuses) == {200}
    assert seen.bodies == {b"[2.0, 4.0, 6.0]"}
    assert seen.refused == 12


def test_not_ready_at_once_and_what_runs_is_answered(start_server):
    server = start_server("slow:Sleeper", "--grace", "10")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, "/predict", {"seconds": 1.0})
        until(lambda: b"in_flight" in server.get("/metrics")[1])
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/healthz")[0] == 503)
        assert running.result(10)[0] == 200
    assert server.process.wait(10) == 0


def test_ends_within_the_grace_time_though_a_request_runs_on(start_server):
    server = start_server("slow:Sleeper", "--grace", "1")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, "/predict", {"seconds": 30.0})
        time.sleep(0.3)
        began = time.monotonic()
        assert server.stop() == 3
        assert time.monotonic() - began < 6
        assert isinstance(running.exception(5), OSError)


def test_a_killed_worker_is_replaced_and_the_port_never_closes(start_server, scale_model):
    server = start_server(scale_model, "--workers", "2")
    with clients(server.port, 8, INFER, BODY, keep=outputs) as seen:
        until(lambda: seen.statuses[200] > 100)
        before = server.children()
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(server.children()) == 2 and before[0] not in server.children())
    # What was inside the killed worker is gone, with a closed connection as its clear error. Such a
    # client asks no more, and all of them may have been inside.
    assert len(seen.lost) <= 8
    with clients(server.port, 8, INFER, BODY, keep=outputs) as later:
        until(lambda: later.statuses[200] > 100)
    assert later.lost == []
    assert seen.refused == later.refused == 0
    assert set(seen.statuses) == set(later.statuses) == {200}
    assert server.stop() == 0


def test_numbers_are_those_of_all_workers_and_survive_one(start_server, scale_model):
    server = start_server(scale_model, "--workers", "2")
    for _ in range(40):
        assert server.post(INFER, BODY)[0] == 200

    def counted():
        text = server.get("/metrics")[1].decode()
        name = 'dockyard_requests_total{model="scale",version="1",protocol="oip",code="200"} '
        return int(text.partition(name)[2].split("\n")[0])

    # A worker counts its last answer a moment after the client has it.
    until(lambda: counted() == 40)
    assert {counted() for _ in range(5)} == {40}
    victim = server.children()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in server.children() and len(server.children()) == 2)
    server.wait_ready()
    assert counted() == 40


def test_workers_end_when_their_parent_is_killed(start_server, scale_model):
    server = start_server(scale_model, "--workers", "2")
    workers = server.children()
    server.process.kill()
    server.process.wait(10)

    def running(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    until(lambda: not any(running(pid) for pid in workers))


def test_a_full_queue_answers_503_and_the_rest_goes_on(start_server):
    server = start_server("slow:Sleeper", "--max-queue", "2")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.post("/predict", {"seconds": 0.2}), range(12)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 3
    refused = next(headers for status, _, headers in answers if status == 503)
    assert int(refused["retry-after"]) >= 1


def test_a_deadline_is_the_servers_or_the_headers(start_server):
    server = start_server("slow:Sleeper", "--timeout", "300ms")
    assert server.post("/predict", {"seconds": 5.0})[0] == 504
    server = start_server("slow:Sleeper")
    began = time.monotonic()
    answer = server.post("/predict", {"seconds": 3.0}, **{"X-Request-Timeout": "0.2"})
    assert answer[0] == 504
    assert time.monotonic() - began < 3


def test_who_leaves_gives_up_the_place(start_server):
    server = start_server("slow:Sleeper", "--max-queue", "4")
    request = json.dumps({"seconds": 0.5}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    first = server.connect()
    first.sendall(head + request)
    time.sleep(0.2)
    for _ in range(4):
        with server.connect() as leaver:
            leaver.sendall(head + request)
            time.sleep(0.05)
    began = time.monotonic()
    assert server.post("/predict", {"seconds": 0.0})[0] == 200
    assert time.monotonic() - began < 1.5
    first.close()


def test_a_model_that_raises_is_500_without_its_words(start_server):
    server = start_server("slow:Crasher")
    status, answer, _ = server.post("/predict", {"how": "raise"})
    assert status == 500
    assert "secret" not in json.dumps(answer)
    assert "a secret of the server" in server.log.read_text()
    assert server.post("/predict", {"how": "well"})[0] == 200


def test_a_model_that_ends_its_worker_takes_only_that_one(start_server):
    server = start_server("slow:Crasher", "--workers", "2")
    with pytest.raises((OSError, HTTPException)):
        server.post("/predict", {"how": "exit"})
    until(lambda: len(server.children()) == 2)
    assert server.post("/predict", {"how": "well"})[0] == 200


def test_connections_that_are_reset_or_half_sent_leave_nothing_behind(start_server, scale_model):
    server = start_server(scale_model)

    def files():
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))  # noqa: PTH208

    before = files()
    for number in range(300):
        with server.connect() as sock:
            sock.sendall((b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: a\r\n")[: number % 40])
            if number % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: files() <= before + 2)
    assert server.post(INFER, BODY)[0] == 200


def test_a_head_or_body_that_never_ends_is_given_up(tmp_path):
    # In process, where the limits can be short.
    import asyncio

    from dockyard_serve.http.connection import Limits
    from dockyard_serve.http.router import Router
    from dockyard_serve.http.server import HttpServer

    async def run():
        router = Router()
        router.add("POST", "/", lambda exchange: exchange.send(b"{}"))
        limits = Limits(head_timeout=0.2, body_timeout=0.2, idle_timeout=0.2)
        server = HttpServer(router, limits)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        await server.listen(sock)
        found = []
        for sent in (
            b"POST / HT",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
            b"",
        ):
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(sent)
            found.append((await asyncio.wait_for(reader.read(), 10)).split(b"\r\n")[0])
            writer.close()
        await server.drain(1.0)
        return found

    assert asyncio.run(run()) == [b"HTTP/1.1 408 Request Timeout"] * 2 + [b""]


def test_256_connections_on_two_workers_get_right_answers_only(start_server, scale_model):
    server = start_server(scale_model, "--workers", "2")
    with clients(server.port, 64, INFER, BODY, keep=outputs) as seen:
        idle = [server.connect() for _ in range(192)]
        until(lambda: seen.statuses[200] > 2000, within=60)
        for sock in idle:
            sock.close()
    assert seen.lost == []
    assert set(seen.statuses) == {200}
    assert seen.bodies == {b"[2.0, 4.0, 6.0]"}


def test_answers_are_never_mixed_up_by_batching(start_server, scale_model):
    server = start_server(scale_model)

    def ask(number):
        body = {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [number] * 6},
            ]
        }
        return server.post(INFER, body)[1]["outputs"][0]["data"]

    with ThreadPoolExecutor(16) as pool:
        for number, answer in enumerate(pool.map(ask, range(400))):
            assert answer == [2 * number] * 6


def test_no_thread_of_the_tests_is_left():
    # Other files of this process may have threads of their own.
    until(lambda: "load client" not in {thread.name for thread in threading.enumerate()})


def test_a_taken_port_or_a_missing_model_is_one_clear_line(start_server, scale_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start_server(scale_model, "--port", str(taken.getsockname()[1]), wait=False)
        assert server.process.wait(20) == 1
        assert "can't be listened on" in server.log.read_text()
    server = start_server("nothing.onnx", wait=False)
    assert server.process.wait(20) == 1
    assert server.log.read_text().count("\n") == 2
    assert "there is no such file" in server.log.read_text()
    server = start_server("nothing.onnx", "--workers", "2", wait=False)
    assert server.process.wait(20) == 1
