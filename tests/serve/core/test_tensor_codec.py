"""Tensors in JSON and bytes: what comes back is what went in, and nothing is cast silently."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockyard_serve.errors import InvalidInput
from dockyard_serve.tensors import NUMPY_TYPES, from_bytes, from_json, to_bytes, to_json

VALUES = {
    "BOOL": [True, False],
    "BYTES": [b"", "aä€".encode()],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, 3.4e38],
    "FP64": [0.1, 1e300],
    "BF16": [1.0, -0.15625],
}


def example(datatype: str) -> np.ndarray:
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([[limits.min], [limits.max]], dtype=dtype)
    array = np.empty(2, dtype=dtype)
    array[:] = VALUES[datatype]
    return array.reshape(2, 1)


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_every_datatype_survives_both_ways(datatype):
    array = example(datatype)
    raw = from_bytes("x", datatype, array.shape, to_bytes(datatype, array))
    assert raw.dtype == array.dtype
    assert raw.tolist() == array.tolist()
    data = to_json("x", datatype, array)
    data = data if isinstance(data, list) else data.tolist()
    assert from_json("x", datatype, array.shape, data).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        pytest.param("FP32", [1], ["1.5"], id="text for a number"),
        pytest.param("FP32", [1], [True], id="a boolean for a number"),
        pytest.param("FP32", [1], [None], id="null for a number"),
        pytest.param("FP32", [2], [[1, 2], [3]], id="lists of different lengths"),
        pytest.param("FP32", [2], [1], id="too few"),
        pytest.param("FP32", [2, 1], [[1, 2]], id="nested in another shape"),
        pytest.param("FP32", [1], {"a": 1}, id="an object"),
        pytest.param("INT64", [1], [1.5], id="a fraction for an integer"),
        pytest.param("INT8", [1], [300], id="too large for INT8"),
        pytest.param("UINT8", [1], [-1], id="negative for an unsigned type"),
        pytest.param("UINT64", [1], [2**64], id="too large for any type"),
        pytest.param("BOOL", [1], [2], id="2 for a boolean"),
        pytest.param("BYTES", [1], [1], id="a number for text"),
        pytest.param("BYTES", [2], [["a"], "b"], id="text beside a list"),
    ],
)
def test_refuses_json_that_would_need_a_guess(datatype, shape, data):
    with pytest.raises(InvalidInput):
        from_json("x", datatype, shape, data)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        pytest.param("FP32", [2], b"1234567", id="too short"),
        pytest.param("FP32", [1], b"12345", id="too long"),
        pytest.param("BYTES", [1], b"\x01\x00", id="ends in a length"),
        pytest.param("BYTES", [1], b"\xff\xff\xff\xffa", id="a length beyond the end"),
        pytest.param("BYTES", [2], b"\x00\x00\x00\x00", id="too few elements"),
    ],
)
def test_refuses_bytes_of_another_size(datatype, shape, raw):
    with pytest.raises(InvalidInput):
        from_bytes("x", datatype, shape, raw)


def test_bf16_is_rounded_to_nearest_and_keeps_nan():
    array = np.array([1.0 + 2**-8, 1.0 + 3 * 2**-8, np.nan, np.inf], np.float32)
    found = from_bytes("x", "BF16", [4], to_bytes("BF16", array))
    np.testing.assert_array_equal(found, np.array([1.0, 1.0 + 2**-6, np.nan, np.inf], np.float32))


@pytest.mark.parametrize("datatype", ["FP32", "BF16", "BYTES"])
@pytest.mark.parametrize(
    "shape", [[0, *[9] * 40], [0] * 70], ids=["empty along one axis, huge along the others", "axes"]
)
def test_an_empty_tensor_of_an_impossible_shape_is_refused(datatype, shape):
    with pytest.raises(InvalidInput, match="no array can have"):
        from_bytes("x", datatype, shape, b"")
    with pytest.raises(InvalidInput, match="no array can have"):
        from_json("x", datatype, shape, [])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.sampled_from(sorted(NUMPY_TYPES)), st.lists(st.integers(0, 9)))
def test_any_bytes_are_a_tensor_or_refused(raw, datatype, shape):
    try:
        array = from_bytes("x", datatype, shape, raw)
    except InvalidInput:
        return
    assert array.shape == tuple(shape)
    if datatype not in {"BOOL", "BF16"}:
        assert to_bytes(datatype, array) == raw
