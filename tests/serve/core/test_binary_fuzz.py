"""Any bytes as an inference request: an answer or a client's error, never an exception."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dockyard_serve.errors import ClientError
from dockyard_serve.inference import Signature
from dockyard_serve.model import TensorSpec
from dockyard_serve.protocols.oip import read_infer, write_infer
from dockyard_serve.protocols.plain import read_plain
from dockyard_serve.protocols.tfserving import read_predict
from dockyard_serve.tensors import NUMPY_TYPES


class Echo:
    """A model of two inputs that gives them back."""

    name, version, platform, max_batch_size = "echo", "1", "test", 8
    inputs = outputs = (
        TensorSpec(name="a", datatype="FP32", shape=(-1, 2)),
        TensorSpec(name="b", datatype="BYTES", shape=(-1, -1)),
    )


SIGNATURE = Signature(Echo())
NUMBERS = st.one_of(st.integers(-2, 9), st.floats(), st.booleans(), st.none(), st.text(max_size=3))
NESTED = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "c", 3, None]),
        "datatype": st.sampled_from([*NUMPY_TYPES, "FP128", 7]),
        "shape": st.one_of(st.lists(st.integers(-1, 3), max_size=3), NESTED),
        "data": NESTED,
        "parameters": st.one_of(
            st.fixed_dictionaries({"binary_data_size": st.one_of(st.integers(-1, 40), NUMBERS)}),
            NUMBERS,
        ),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.one_of(st.lists(st.one_of(TENSORS, NUMBERS), max_size=3), NUMBERS),
        "outputs": st.one_of(st.lists(st.one_of(TENSORS, NUMBERS), max_size=2), NUMBERS),
        "parameters": st.one_of(st.dictionaries(st.text(max_size=3), NUMBERS), NUMBERS),
        "id": NUMBERS,
    },
)


def answers_or_refuses(read):
    try:
        return read()
    except ClientError:
        return None


@settings(max_examples=400, deadline=None)
@given(document=DOCUMENTS, tail=st.binary(max_size=48), offset=st.integers(-2, 2))
@example(
    document={"inputs": [{"name": "a", "datatype": "FP32", "shape": [1, 2]}]}, tail=b"", offset=0
)
def test_any_document_with_any_bytes(document, tail, offset):
    text = json.dumps(document).encode()
    length = str(len(text) + offset)
    answers_or_refuses(lambda: read_infer(SIGNATURE, text + tail, length))
    answers_or_refuses(lambda: read_infer(SIGNATURE, text, None))


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=80), length=st.one_of(st.none(), st.text(max_size=6)))
def test_any_bytes_with_any_length(body, length):
    answers_or_refuses(lambda: read_infer(SIGNATURE, body, length))
    answers_or_refuses(lambda: read_predict(SIGNATURE, body))
    for media_type in ("", "application/octet-stream", "application/x-npy", "text/plain"):
        answers_or_refuses(lambda media_type=media_type: read_plain(SIGNATURE, body, media_type))


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(st.sampled_from(["a", "b", "inputs", "instances"]), NESTED))
def test_any_json_where_plain_json_is_taken(value):
    body = json.dumps(value).encode()
    answers_or_refuses(lambda: read_plain(SIGNATURE, body, "application/json"))
    answers_or_refuses(lambda: read_predict(SIGNATURE, body))


@settings(max_examples=200, deadline=None)
@given(
    floats=st.lists(st.floats(width=32), min_size=2, max_size=2),
    texts=st.lists(st.binary(max_size=5), min_size=1, max_size=3),
)
def test_what_is_written_is_read_again(floats, texts):
    a = np.array([floats], np.float32)
    raw_a = a.tobytes()
    raw_b = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    head = {
        "inputs": [
            {
                "name": "a",
                "datatype": "FP32",
                "shape": [1, 2],
                "parameters": {"binary_data_size": len(raw_a)},
            },
            {
                "name": "b",
                "datatype": "BYTES",
                "shape": [1, len(texts)],
                "parameters": {"binary_data_size": len(raw_b)},
            },
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    request = read_infer(SIGNATURE, text + raw_a + raw_b, str(len(text)))
    answer = write_infer(SIGNATURE, request, request.fitted.inputs)
    assert answer.body[answer.json_length :] == raw_a + raw_b
