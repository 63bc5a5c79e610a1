"""The three networks that servers are compared with, written as ONNX with fixed weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _weights(name: str, *shape: int) -> Any:
    fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
    values = np.random.default_rng(0).standard_normal(shape) / np.sqrt(fan_in)
    return numpy_helper.from_array(values.astype(np.float32), name)


def _save(path: Path, nodes: list[Any], shape: list[int], classes: int, weights: list[Any]) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(nodes, "network", [x], [y], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def save_mlp(path: Path, sizes: list[int]) -> Path:
    """Dense layers with ReLU between them."""
    nodes, weights, last = [], [], "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weights.append(_weights(f"w{layer}", rows, columns))
        final = layer == len(sizes) - 2
        product = "y" if final else f"h{layer}"
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [product]))
        if not final:
            nodes.append(helper.make_node("Relu", [product], [f"r{layer}"]))
            last = f"r{layer}"
    return _save(path, nodes, [sizes[0]], sizes[-1], weights)


def save_cnn(path: Path) -> Path:
    """Three convolutions over 3 x 64 x 64, pure compute."""
    nodes, weights, last, channels = [], [], "x", 3
    for layer, (wide, stride) in enumerate([(32, 1), (64, 2), (128, 2)]):
        weights.append(_weights(f"w{layer}", wide, channels, 3, 3))
        convolve = helper.make_node(
            "Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1] * 4, strides=[stride] * 2
        )
        nodes += [convolve, helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"])]
        last, channels = f"r{layer}", wide
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weights.append(_weights("dense", channels, 10))
    nodes.append(helper.make_node("MatMul", ["flat", "dense"], ["y"]))
    return _save(path, nodes, [3, 64, 64], 10, weights)


SHAPES = {"tiny": [1, 64], "wide": [1, 256], "cnn": [1, 3, 64, 64]}


def save_all(folder: Path) -> dict[str, Path]:
    """The networks by name."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "tiny": save_mlp(folder / "tiny.onnx", [64, 128, 10]),
        "wide": save_mlp(folder / "wide.onnx", [256, 4096, 4096, 10]),
        "cnn": save_cnn(folder / "cnn.onnx"),
    }
