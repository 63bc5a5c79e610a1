"""NVIDIA's own client, unchanged, against every endpoint and datatype of the protocol."""

from __future__ import annotations

import numpy as np
import pytest

from dockyard_serve.tensors import NUMPY_TYPES

http = pytest.importorskip("tritonclient.http")
utils = pytest.importorskip("tritonclient.utils")

IN_JSON = sorted(set(NUMPY_TYPES) - {"FP16", "BF16"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_identity, make_scale):
    pytest.importorskip("onnxruntime")
    root = tmp_path_factory.mktemp("models")
    for datatype in NUMPY_TYPES:
        make_identity(root / datatype.lower() / "1" / "model.onnx", datatype)
    for version in (2, 9, 10):
        make_scale(root / "scale" / str(version) / "model.onnx", float(version))
    (root / "scale" / "model.toml").write_text('versions = "all"\naliases = { old = "2" }\n')
    return root


@pytest.fixture(scope="module")
def server(start_server, folder):
    return start_server(folder)


@pytest.fixture
def client(server):
    with http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def values(datatype):
    if datatype == "BYTES":
        return np.array([[b"", "ä".encode(), b"c"]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False, True]])
    if datatype == "BF16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        return np.array([[1.5, -2.0, 3e38]], ml_dtypes.bfloat16)
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([[limits.min, 1, limits.max]], dtype)
    return np.array([[0.5, -1.25, float(np.finfo(dtype).max)]], dtype)


def ask(client, datatype, array, *, sent, answered, **options):
    given = http.InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=sent)
    wanted = http.InferRequestedOutput("y", binary_data=answered)
    return client.infer(datatype.lower(), [given], outputs=[wanted], **options)


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_every_datatype_in_binary(client, datatype):
    array = values(datatype)
    found = ask(client, datatype, array, sent=True, answered=True).as_numpy("y")
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize("datatype", IN_JSON)
@pytest.mark.parametrize(("sent", "answered"), [(False, False), (True, False), (False, True)])
def test_every_datatype_in_json(client, datatype, sent, answered):
    array = values(datatype)
    found = ask(client, datatype, array, sent=sent, answered=answered).as_numpy("y")
    expected = array.tolist()
    if datatype == "BYTES" and not answered:  # The client leaves JSON's strings as they are.
        expected = [[text.decode() for text in row] for row in expected]
    assert found.tolist() == expected


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests(client, coding):
    array = values("FP32")
    found = ask(
        client, "FP32", array, sent=True, answered=True, request_compression_algorithm=coding
    )
    assert found.as_numpy("y").tolist() == array.tolist()


def test_ids_timeouts_and_all_outputs_by_default(client):
    given = http.InferInput("x", [2, 3], "FP32")
    given.set_data_from_numpy(np.ones((2, 3), np.float32))
    found = client.infer("scale", [given], request_id="abc", timeout=5_000_000)
    answer = found.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("abc", "scale", "10")
    assert found.as_numpy("y").tolist() == [[10.0] * 3] * 2


@pytest.mark.parametrize(
    ("version", "factor"), [("", 10.0), ("2", 2.0), ("9", 9.0), ("10", 10.0), ("old", 2.0)]
)
def test_versions_aliases_and_the_newest_by_default(client, version, factor):
    given = http.InferInput("x", [1, 3], "FP32")
    given.set_data_from_numpy(np.ones((1, 3), np.float32))
    found = client.infer("scale", [given], model_version=version)
    assert found.as_numpy("y").tolist() == [[factor] * 3]
    assert client.is_model_ready("scale", version)


def test_metadata_configuration_and_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "dockyard"
    metadata = client.get_model_metadata("scale")
    assert metadata["versions"] == ["10", "9", "2"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    config = client.get_model_config("scale")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["max_batch_size"] > 1
    assert not client.is_model_ready("nothing")


def test_many_requests_at_once(server):
    with http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8) as client:
        pending = []
        for number in range(50):
            given = http.InferInput("x", [1, 3], "FP32")
            given.set_data_from_numpy(np.full((1, 3), number, np.float32))
            pending.append(client.async_infer("scale", [given]))
        for number, one in enumerate(pending):
            assert one.get_result().as_numpy("y").tolist() == [[10.0 * number] * 3]


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "says"),
    [
        ("z", [1, 3], "FP32", "no input"),
        ("x", [1, 4], "FP32", "shape"),
        ("x", [1, 3], "FP64", "datatype"),
    ],
)
def test_errors_are_told_to_the_client(client, name, shape, datatype, says):
    given = http.InferInput(name, shape, datatype)
    given.set_data_from_numpy(np.ones(shape, NUMPY_TYPES[datatype]))
    with pytest.raises(utils.InferenceServerException, match=says) as caught:
        client.infer("scale", [given])
    assert caught.value.status() == "400"


def test_loads_and_unloads_models(start_server, tmp_path, make_scale):
    make_scale(tmp_path / "a" / "1" / "model.onnx", 1.0)
    make_scale(tmp_path / "b" / "1" / "model.onnx", 1.0)
    server = start_server(tmp_path, "--workers", "2")
    with http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:

        def states():
            return {row["name"]: row["state"] for row in client.get_model_repository_index()}

        assert states() == {"a": "READY", "b": "READY"}
        client.unload_model("a")
        assert states() == {"a": "UNAVAILABLE", "b": "READY"}
        assert not client.is_model_ready("a")
        make_scale(tmp_path / "a" / "2" / "model.onnx", 7.0)
        client.load_model("a")
        assert client.get_model_metadata("a")["versions"] == ["2"]
        with pytest.raises(utils.InferenceServerException, match="no model"):
            client.load_model("nothing")
    # Whichever worker a connection meets, all have done it.
    for _ in range(20):
        answer = server.post("/models/a/predict", [1, 1, 1])
        assert answer[1] == {"y": [7.0, 7.0, 7.0]}


def test_a_broken_version_leaves_the_old_one(start_server, tmp_path, make_scale):
    make_scale(tmp_path / "a" / "1" / "model.onnx", 1.0)
    server = start_server(tmp_path)
    (tmp_path / "a" / "2").mkdir()
    (tmp_path / "a" / "2" / "model.onnx").write_bytes(b"broken")
    status, answer, _ = server.post("/v2/repository/models/a/load", {})
    assert status == 400
    assert str(tmp_path) not in answer["error"]
    assert server.post("/models/a/predict", [1, 1, 1])[1] == {"y": [1.0, 1.0, 1.0]}


def test_a_raw_body_is_the_only_input(server):
    array = np.array([[1, 2, 3]], np.float32)
    status, body, headers = server.request(
        "POST",
        "/v2/models/scale/infer",
        array.tobytes(),
        {"Inference-Header-Content-Length": "0"},
    )
    assert status == 200
    found = np.frombuffer(body[int(headers["inference-header-content-length"]) :], np.float32)
    assert found.tolist() == [10.0, 20.0, 30.0]
