"""The server as clients meet it: HTTP's corners, ways to ask, errors that say what to do."""

from __future__ import annotations

import gzip
import json
import time

import numpy as np
import pytest

INFER = "/v2/models/scale/infer"


def tensor(rows=1, **changes):
    data = [float(n) for n in range(3 * rows)]
    return {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": data, **changes}]
    }


@pytest.fixture(scope="module")
def server(start_server, scale_model):
    return start_server(scale_model)


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


def test_answers_the_protocol(server):
    status, body, headers = server.post(INFER, {**tensor(2), "id": "7"})
    assert status == 200
    assert body == {
        "model_name": "scale",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [0, 2, 4, 6, 8, 10]}
        ],
    }
    assert {"date", "content-length", "x-request-id"} <= headers.keys()


def test_says_what_it_has(server):
    assert server.get("/v2")[1]["name"] == "dockyard"
    assert server.get("/v2/models/scale")[1] == {
        "name": "scale",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready", "/v2/models/scale/ready"):
        assert server.get(path)[0] == 200
    assert server.get("/v1/models/scale")[1]["model_version_status"][0]["state"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ([1, 2, 3], {"y": [2, 4, 6]}),
        ([[1, 2, 3]], {"y": [[2, 4, 6]]}),
        ({"x": [[1, 2, 3], [4, 5, 6]]}, {"y": [[2, 4, 6], [8, 10, 12]]}),
    ],
    ids=["a row", "a batch", "by name"],
)
def test_predicts_plain_json(server, body, answer):
    assert server.post("/predict", body)[1] == answer
    assert server.post("/models/scale/predict", body)[1] == answer


def test_predicts_bytes_and_npy_files(server, tmp_path):
    array = np.array([[1, 2, 3]], np.float32)
    np.save(tmp_path / "x.npy", array)
    octets = {"Content-Type": "application/octet-stream"}
    assert server.post("/predict", array.tobytes(), **octets)[1] == {"y": [[2, 4, 6]]}
    npy = {"Content-Type": "application/x-npy"}
    assert server.post("/predict", (tmp_path / "x.npy").read_bytes(), **npy)[1] == {
        "y": [[2, 4, 6]]
    }


def test_predicts_as_tensorflow_serving_does(server):
    path = "/v1/models/scale:predict"
    assert server.post(path, {"instances": [[1, 2, 3]]})[1] == {"predictions": [[2, 4, 6]]}
    assert server.post(path, {"instances": [{"x": [1, 2, 3]}]})[1] == {"predictions": [[2, 4, 6]]}
    assert server.post(path, {"inputs": [[1, 2, 3]]})[1] == {"outputs": [[2, 4, 6]]}
    assert server.post(path, {"instances": []})[0] == 400
    assert server.post("/v1/models/scale/versions/1:predict", {"instances": [[1, 2, 3]]})[0] == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        ([1], "object"),
        ({"inputs": {}}, "list"),
        ({"inputs": []}, "missing"),
        ({"inputs": [{"name": "x"}]}, "datatype"),
        (tensor(name="z"), "no input"),
        (tensor(datatype="FP64"), "datatype"),
        (tensor(datatype="FLOAT"), "datatype"),
        (tensor(shape=[1, 4]), "shape"),
        (tensor(shape=[3]), "shape"),
        (tensor(shape=[0, 3], data=[]), "batch"),
        (tensor(shape=[-1, 3]), "sizes"),
        (tensor(shape=[True, 3]), "sizes"),
        (tensor(data=["a", "b", "c"]), "FP32"),
        (tensor(data=None), "binary_data_size"),
        (tensor(data=None, parameters={"binary_data_size": 12}), "beyond"),
        ({**tensor(), "outputs": [{"name": "z"}]}, "no output"),
        ({**tensor(), "outputs": [3]}, "name"),
        ({**tensor(), "id": 3}, "id"),
        ({**tensor(), "parameters": {"timeout": "soon"}}, "timeout"),
        ({"inputs": tensor()["inputs"] * 2}, "twice"),
    ],
)
def test_says_what_is_wrong_with_a_request(server, body, says):
    status, answer, _ = server.post(INFER, body)
    assert status == 400
    assert says in answer["error"]


def test_names_what_was_expected_and_what_came(server):
    answer = server.post(INFER, tensor(shape=[1, 4], data=[1, 2, 3, 4]))[1]
    assert answer["input"] == "x"
    assert answer["expected"] == "FP32 [-1, 3]"
    assert answer["received"] == "FP32 [1, 4]"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/scale/versions/9", 404),
        ("DELETE", "/v2", 405),
        ("GET", INFER, 405),
    ],
)
def test_knows_its_paths_and_methods(server, method, path, status):
    found, answer, headers = server.request(method, path)
    assert found == status
    assert answer["error"]
    if status == 405:
        assert "OPTIONS" in headers["allow"]


def test_nan_and_infinity_are_bare_words_both_ways(server):
    text = json.dumps(tensor(data=[float("nan"), float("inf"), float("-inf")]))
    assert "NaN" in text
    status, answer, _ = server.post(INFER, text.encode())
    assert status == 200
    values = answer["outputs"][0]["data"]
    assert values[0] != values[0]
    assert values[1:] == [float("inf"), float("-inf")]


def test_head_and_options(server):
    status, body, headers = server.request("HEAD", "/v2")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 10
    status, _, headers = server.request("OPTIONS", INFER)
    assert (status, headers["allow"]) == (204, "POST, OPTIONS")


def test_pipelined_requests_are_answered_in_order(server):
    body = json.dumps(tensor()).encode()
    post = head("POST", INFER, f"Content-Length: {len(body)}") + body
    last = head("GET", "/v2/models/scale", "Connection: close")
    answer = server.raw(post + head("GET", "/v2") + post + last)
    words = [b'"outputs":[{', b'"dockyard"', b'"outputs":[{', b'"platform"']
    places = []
    for word in words:
        places.append(answer.index(word, places[-1] + 1 if places else 0))
    assert answer.count(b"HTTP/1.1 200 OK") == 4


def test_a_request_may_come_byte_by_byte(server):
    body = json.dumps(tensor()).encode()
    request = head("POST", INFER, f"Content-Length: {len(body)}", "Connection: close") + body
    with server.connect() as sock:
        for at in range(len(request)):
            sock.sendall(request[at : at + 1])
        assert b" 200 OK" in sock.recv(65536)


def test_takes_chunked_bodies(server):
    body = json.dumps(tensor()).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[n : n + 1]) for n in range(len(body)))
    request = head("POST", INFER, "Transfer-Encoding: chunked", "Connection: close")
    assert b" 200 OK" in server.raw(request + chunks + b"0\r\n\r\n")


def test_says_continue_to_who_asks_first(server):
    body = json.dumps(tensor()).encode()
    with server.connect() as sock:
        sock.sendall(head("POST", INFER, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b" 200 OK" in sock.recv(65536)


def test_http_1_0_is_closed_after_the_answer(server):
    answer = server.raw(b"GET /v2 HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer


def test_inflates_bodies_and_knows_no_other_coding(server):
    body = gzip.compress(json.dumps(tensor()).encode())
    assert server.post(INFER, body, **{"Content-Encoding": "gzip"})[0] == 200
    assert server.post(INFER, b"no gzip", **{"Content-Encoding": "gzip"})[0] == 400
    assert server.post(INFER, body[:-9], **{"Content-Encoding": "gzip"})[0] == 400
    assert server.post(INFER, body, **{"Content-Encoding": "br"})[0] == 415


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 20000 + b"\r\n\r\n", b"431"),
        (head("POST", INFER, "Content-Length: 99999999999"), b"413"),
        (head("POST", INFER, "Transfer-Encoding: chunked") + b"zz\r\n", b"400"),
        (head("POST", INFER, "Transfer-Encoding: gzip"), b"501"),
    ],
    ids=["no host", "TLS", "large head", "large body", "bad chunk", "unknown coding"],
)
def test_refuses_and_hangs_up_on_what_it_cannot_read_on(server, data, status):
    answer = server.raw(data)
    assert answer.split(b" ")[1] == status
    assert b"Connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_passes_the_request_id_on(server):
    assert server.get("/v2", **{"X-Request-Id": "abc"})[2]["x-request-id"] == "abc"
    first, second = (server.get("/v2")[2]["x-request-id"] for _ in range(2))
    assert first != second


def test_a_large_request_goes_through_in_parts(server):
    rows = 1000
    answer = server.post(INFER, tensor(rows))[1]["outputs"][0]
    assert answer["shape"] == [rows, 3]
    assert answer["data"] == [2.0 * n for n in range(3 * rows)]


def test_counts_what_it_did(server):
    server.post(INFER, tensor())
    server.post(INFER, tensor(shape=[9]))
    text = server.get("/metrics")[1].decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    labels = '{model="scale",version="1",protocol="oip",code="200"}'
    assert float(lines[f"dockyard_requests_total{labels}"]) >= 1
    assert float(lines[f"dockyard_requests_total{labels.replace('200', '400')}"]) >= 1
    stages = {"preprocess", "queue", "inference", "postprocess"}
    for stage in stages:
        key = f'dockyard_stage_duration_seconds_count{{model="scale",version="1",stage="{stage}"}}'
        assert float(lines[key]) >= 1
    assert float(lines["process_resident_memory_bytes"]) > 1e6


def test_a_client_that_stalls_keeps_nobody_else_waiting(server):
    stalled = [server.connect() for _ in range(20)]
    try:
        for number, sock in enumerate(stalled):
            sock.sendall(head("POST", INFER, "Content-Length: 100")[: 20 + number])
        began = time.monotonic()
        assert server.post(INFER, tensor())[0] == 200
        assert time.monotonic() - began < 5
    finally:
        for sock in stalled:
            sock.close()


def test_asks_for_a_key_where_keys_are_set(start_server, scale_model):
    server = start_server(scale_model, "--api-key", "k1", DOCKYARD_API_KEY="k2,k3")
    assert server.get("/v2/health/live")[0] == 200
    assert server.get("/v2")[0] == 401
    status, _, headers = server.post(INFER, tensor(), Authorization="Bearer wrong")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    for key in ("k1", "k2", "k3"):
        assert server.post(INFER, tensor(), Authorization=f"Bearer {key}")[0] == 200


def test_lets_pages_of_named_origins_ask(start_server, scale_model):
    server = start_server(scale_model, "--cors", "https://a.example")
    good = server.post(INFER, tensor(), Origin="https://a.example")[2]
    assert good["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in server.get("/v2", Origin="https://b.example")[2]
    status, _, headers = server.request(
        "OPTIONS",
        INFER,
        headers={
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert status == 204
    assert headers["access-control-allow-headers"] == "content-type"
