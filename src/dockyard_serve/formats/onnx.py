"""ONNX files, run by ONNX Runtime.

Rules: names, datatypes and shapes are the graph's. The first axis is a batch where every input and
output has the same free name there. Weights beside the file (external data) are found by their
relative names, as ONNX Runtime does.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import Arrays, LoadedModel, batch_limit
from dockyard_serve.model import TensorSpec
from dockyard_serve.tensors import element_bytes, from_bytes, to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard_serve.model import Source

_BF16 = "tensor(bfloat16)"
_ONNX_BFLOAT16 = 16  # onnx.proto, TensorProto.DataType
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
    _BF16: "BF16",
    **{
        f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}


def load(source: Source) -> LoadedModel:
    """Open a session; raises LoadError when ONNX Runtime can't, or the graph has other types."""
    import onnxruntime

    assert source.path is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = source.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A pool that spins between requests burns the CPU share that other workers could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(onnxruntime.get_available_providers(), source)
    try:
        session = onnxruntime.InferenceSession(str(source.path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception.
        raise LoadError(
            f"ONNX Runtime can't load it: {_short(error)}",
            where=str(source.path),
            hint="Check the file with onnx.checker, and that ONNX Runtime is new enough for it.",
        ) from error
    inputs = [_spec(item, source) for item in session.get_inputs()]
    # Classifiers converted from scikit-learn have a list of dictionaries beside the tensor.
    given = [item for item in session.get_outputs() if item.type in _DATATYPES]
    if not given:
        raise LoadError(
            "has no output that is a tensor",
            where=str(source.path),
            hint='Convert it without ZipMap: options={"zipmap": False} in skl2onnx.',
        )
    outputs = [_spec(item, source) for item in given]
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="onnxruntime_onnx",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        max_batch_size=batch_limit(
            source, *_one_batch(session.get_inputs(), given, inputs, outputs)
        ),
        function=_function(session, onnxruntime, inputs, outputs),
    )


def _spec(item: Any, source: Source) -> TensorSpec:
    if item.type not in _DATATYPES:
        raise LoadError(
            f"{item.name} is a {item.type}, which no protocol can carry", where=str(source.path)
        )
    # A free axis is a name, or None where the graph gives it none.
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in item.shape)
    return TensorSpec(name=item.name, datatype=_DATATYPES[item.type], shape=shape)


def _one_batch(
    given: Sequence[Any],
    taken: Sequence[Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
    """The specs, unless free first axes have different names: then what shows that."""
    names = {item.shape[0] for item in (*given, *taken) if item.shape}
    if len(names) > 1 and all(isinstance(name, str) for name in names):
        fixed = TensorSpec(name=inputs[0].name, datatype=inputs[0].datatype, shape=())
        return [fixed], outputs
    return inputs, outputs


def _providers(available: Sequence[str], source: Source) -> list[str]:
    """CUDA where the build and the configuration have it, with the CPU behind it."""
    device = str(source.options.get("device", "auto"))
    cuda = "CUDAExecutionProvider"
    if device.startswith("cuda") and cuda not in available:
        raise LoadError(
            'device = "cuda", but this ONNX Runtime has no CUDA',
            where=str(source.path),
            hint="Depend on onnxruntime-gpu.",
        )
    return [*([cuda] if cuda in available and device != "cpu" else []), "CPUExecutionProvider"]


def _function(
    session: Any, onnxruntime: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Any:
    names = [spec.name for spec in outputs]
    plain = {"BYTES", "BF16"}.isdisjoint(spec.datatype for spec in (*inputs, *outputs))
    run = session.run

    def infer(arrays: Arrays) -> Arrays:
        return dict(zip(names, run(names, arrays), strict=True))

    if plain:
        return infer
    if all(spec.datatype != "BF16" for spec in (*inputs, *outputs)):
        strings = [spec.name for spec in inputs if spec.datatype == "BYTES"]

        def infer_strings(arrays: Arrays) -> Arrays:
            feed = {**arrays, **{name: _decoded(arrays[name]) for name in strings}}
            found = dict(zip(names, run(names, feed), strict=True))
            return {name: _encoded(array) for name, array in found.items()}

        return infer_strings

    kinds = {spec.name: spec.datatype for spec in (*inputs, *outputs)}

    def infer_values(arrays: Arrays) -> Arrays:
        feed = {
            name: _value(onnxruntime.OrtValue, array, kinds[name]) for name, array in arrays.items()
        }
        found = session.run_with_ort_values(names, feed)
        return {name: _array(value, kinds[name]) for name, value in zip(names, found, strict=True)}

    return infer_values


def _value(make: Any, array: np.ndarray[Any, Any], datatype: str) -> Any:
    """An array as ONNX Runtime's own value, which can hold BF16, for which NumPy has no type."""
    if datatype == "BF16":
        bits = np.frombuffer(to_bytes(datatype, array), dtype=np.uint16).reshape(array.shape)
        return make.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_BFLOAT16)
    return make.ortvalue_from_numpy(_decoded(array) if datatype == "BYTES" else array)


def _array(value: Any, datatype: str) -> np.ndarray[Any, Any]:
    if datatype != "BF16":
        return _encoded(value.numpy())
    shape = tuple(value.shape())
    # ONNX Runtime gives no array of this type: read its memory, which it keeps while `value` lives.
    raw = ctypes.string_at(value.data_ptr(), 2 * math.prod(shape)) if math.prod(shape) else b""
    return from_bytes("output", datatype, shape, raw)


def _decoded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Bytes as the strings that ONNX Runtime takes; bytes that aren't UTF-8 are replaced."""
    flat = [item.decode("utf-8", "replace") for item in array.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(array.shape)


def _encoded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "OU":
        return array
    flat = np.empty(array.size, dtype=object)
    flat[:] = [element_bytes(item) for item in array.ravel().tolist()]
    return flat.reshape(array.shape)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
