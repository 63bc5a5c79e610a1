"""ONNX files: what is read from the graph, and the answers of ONNX Runtime itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dockyard_serve.errors import LoadError
from dockyard_serve.model import TensorSpec

MODEL = Path(__file__).parents[3] / "examples" / "onnx-digits" / "model.onnx"


def graph(folder, nodes, inputs, outputs, constants=()):
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        list(constants),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "made.onnx"
    onnx.save(model, path)
    return path


def test_reads_names_types_and_shapes_from_the_graph(load):
    model = load(MODEL)
    assert model.inputs == (TensorSpec(name="images", datatype="FP32", shape=(-1, 8, 8)),)
    assert model.outputs == (TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 10)),)
    assert model.platform == "onnxruntime_onnx"
    assert model.max_batch_size == 64


def test_answers_as_onnx_runtime_does(load, digits):
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"images": digits.images})
    model = load(MODEL)
    model.warm_up()
    found = model.infer({"images": digits.images})["probabilities"]
    assert np.array_equal(found, expected)
    assert (found.argmax(axis=1) == digits.labels).mean() > 0.9


FLOATS = ["FP16", "FP32", "FP64"]
KINDS = [
    ("BOOL", TensorProto.BOOL, np.array([True, False])),
    *(
        (f"INT{n}", getattr(TensorProto, f"INT{n}"), np.array([-3, 4], f"int{n}"))
        for n in (8, 16, 32, 64)
    ),
    *(
        (f"UINT{n}", getattr(TensorProto, f"UINT{n}"), np.array([3, 4], f"uint{n}"))
        for n in (8, 16, 32, 64)
    ),
    ("FP16", TensorProto.FLOAT16, np.array([1.5, -2], np.float16)),
    ("FP32", TensorProto.FLOAT, np.array([1.5, -2], np.float32)),
    ("FP64", TensorProto.DOUBLE, np.array([1.5, -2], np.float64)),
    ("BF16", TensorProto.BFLOAT16, np.array([1.5, -2], np.float32)),
    ("BYTES", TensorProto.STRING, np.array([b"a", "ü".encode()], object)),
]


@pytest.mark.parametrize(("datatype", "kind", "value"), KINDS, ids=[row[0] for row in KINDS])
def test_carries_every_datatype_through(load, tmp_path, datatype, kind, value):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = load(graph(tmp_path, nodes, [("x", kind, ["n"])], [("y", kind, ["n"])]))
    assert [spec.datatype for spec in (*model.inputs, *model.outputs)] == [datatype, datatype]
    found = model.infer({"x": value})["y"]
    assert found.dtype == value.dtype
    assert found.tolist() == value.tolist()


def test_bfloat16_is_computed_by_the_model(load, tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]
    path = graph(
        tmp_path, nodes, [("x", TensorProto.FLOAT, ["n"])], [("y", TensorProto.BFLOAT16, ["n"])]
    )
    found = load(path).infer({"x": np.array([1.0, 1.001, 3.14159], np.float32)})["y"]
    assert found.tolist() == [1.0, 1.0, 3.140625]


# What it is, the first axes of input and output, the batch.
AXES = [
    ("the same free name", "n", "n", 64),
    ("a fixed size", 1, 1, None),
    ("two free names", "n", "m", None),
    ("a fixed output", "n", 1, None),
]


@pytest.mark.parametrize(("what", "first", "last", "limit"), AXES, ids=[row[0] for row in AXES])
def test_takes_a_batch_where_the_first_axis_is_one(load, tmp_path, what, first, last, limit):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    kind = TensorProto.FLOAT
    path = graph(tmp_path, nodes, [("x", kind, [first, 2])], [("y", kind, [last, 2])])
    assert load(path).max_batch_size == limit


def test_the_configured_batch_wins_where_there_can_be_one(load, tmp_path):
    assert load(MODEL, max_batch_size=8).max_batch_size == 8
    assert load(MODEL, max_batch_size=0).max_batch_size is None
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    kind = TensorProto.FLOAT
    path = graph(tmp_path, nodes, [("x", kind, [1, 2])], [("y", kind, [1, 2])])
    with pytest.raises(LoadError, match="takes no batches: x is FP32"):
        load(path, max_batch_size=8)


def test_reads_weights_that_lie_beside_the_file(load, tmp_path):
    model = onnx.load(MODEL)
    onnx.save(
        model,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.onnx.data",
        size_threshold=1024,
    )
    images = np.ones((1, 8, 8), np.float32)
    apart = load(tmp_path / "m.onnx").infer({"images": images})
    assert np.array_equal(
        apart["probabilities"], load(MODEL).infer({"images": images})["probabilities"]
    )


def test_leaves_out_outputs_that_are_no_tensors(load, tmp_path):
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    assert [spec.name for spec in load(tmp_path / "m.onnx").outputs] == ["y"]


def test_says_what_is_wrong_with_a_damaged_file(load, tmp_path):
    (tmp_path / "m.onnx").write_bytes(MODEL.read_bytes()[:5000])
    with pytest.raises(LoadError, match="ONNX Runtime can't load it") as caught:
        load(tmp_path / "m.onnx")
    assert caught.value.where == str(tmp_path / "m.onnx")


def test_a_constant_of_every_size_is_no_input(load, tmp_path):
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    kind = TensorProto.FLOAT
    path = graph(tmp_path, nodes, [("x", kind, ["n", 2])], [("y", kind, ["n", 2])], [weight])
    assert [spec.name for spec in load(path).inputs] == ["x"]
