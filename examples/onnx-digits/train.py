"""Train the digit classifier and write model.onnx and digits.json.

    pip install scikit-learn onnx onnxruntime && python train.py

A two-layer perceptron is trained with scikit-learn on its 1,797 scanned digits, 8 x 8 pixels of
0 to 16, and written down as an ONNX graph. A quarter is held out; 50 of those go into digits.json
with their labels and this model's answers, for `verify`.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).resolve().parent


def onnx_graph(classifier: MLPClassifier) -> onnx.ModelProto:
    """The classifier as a graph: images (n, 8, 8) of 0 to 16 -> probabilities (n, 10)."""
    constants = {"sixteen": np.float32(16), "flat": np.array([-1, 64], dtype=np.int64)}
    nodes = [
        helper.make_node("Div", ["images", "sixteen"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["x0"]),
    ]
    last = len(classifier.coefs_) - 1
    for i, (weight, bias) in enumerate(zip(classifier.coefs_, classifier.intercepts_, strict=True)):
        constants[f"weight{i}"] = weight.astype(np.float32)
        constants[f"bias{i}"] = bias.astype(np.float32)
        nodes.append(helper.make_node("Gemm", [f"x{i}", f"weight{i}", f"bias{i}"], [f"z{i}"]))
        if i < last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("Softmax", [f"z{last}"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="dockyard"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=0.25, stratify=digits.target, random_state=1797
    )
    classifier = MLPClassifier((128, 64), alpha=1e-2, max_iter=400, random_state=1797)
    classifier.fit(train_images.reshape(-1, 64) / 16, train_labels)
    onnx.save(onnx_graph(classifier), HERE / "model.onnx")

    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": test_images.astype(np.float32)})
    answers = probabilities.argmax(axis=1)
    print(f"held-out accuracy: {np.mean(answers == test_labels):.3f}")
    rows = [
        {"label": int(label), "answer": int(answer), "image": image.astype(int).tolist()}
        for label, answer, image in zip(
            test_labels[:50], answers[:50], test_images[:50], strict=True
        )
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "digits.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
