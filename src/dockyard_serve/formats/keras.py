"""Keras models (`.keras`, and `.h5` of any version), run by the Keras backend that is installed.

Rules:
- Names, shapes and datatypes are those of the model's inputs; outputs are named as the model names
  them, or by their layer.
- Python that Keras would deserialise (Lambda layers, classes from outside of Keras) is refused
  before Keras sees the file, unless the operator trusts it: HDF5 files know no safe mode.
- On JAX every new number of rows is compiled anew, so batches are padded to powers of two.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import Arrays, LoadedModel, batch_limit, in_powers_of_two
from dockyard_serve.model import TensorSpec
from dockyard_serve.tensors import NUMPY_TYPES, datatype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dockyard_serve.model import Source

_BACKENDS = (("tensorflow", "tensorflow"), ("jax", "jax"), ("torch", "torch"))


def load(source: Source) -> LoadedModel:
    """Load a model; raises LoadError when Keras can't, or the file brings code of its own."""
    assert source.path is not None
    if not source.options.get("trust"):
        _refuse_code(source.path)
    _choose_backend(source)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    trusted = bool(source.options.get("trust"))
    try:
        model = keras.saving.load_model(str(source.path), compile=False, safe_mode=not trusted)
    except Exception as error:  # Keras raises whatever its layers raise.
        raise LoadError(
            f"Keras {keras.__version__} can't load it: {_first_line(error)}",
            where=str(source.path),
            hint="Save it with Keras 3, as .keras.",
        ) from error
    if not getattr(model, "inputs", None):
        raise LoadError(
            "doesn't say its inputs: the model was never built or called",
            where=str(source.path),
            hint="Call it once on an example before saving it, or make it with keras.Input.",
        )
    inputs = tuple(_spec(name, item, source) for name, item in _named_inputs(model).items())
    outputs = tuple(_spec(name, item, source) for name, item in _named_outputs(model).items())
    limit = batch_limit(source, inputs, outputs)
    function = _function(keras, model, inputs, [spec.name for spec in outputs])
    if keras.backend.backend() == "jax" and limit:
        function = in_powers_of_two(function)
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform=f"keras_{keras.backend.backend()}",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=limit,
        function=function,
    )


def _choose_backend(source: Source) -> None:
    """Take the backend that the environment names, else the first that is installed."""
    if "KERAS_BACKEND" in os.environ:
        return
    for name, module in _BACKENDS:
        if importlib.util.find_spec(module) is not None:
            os.environ["KERAS_BACKEND"] = name
            return
    raise LoadError(
        "is a Keras model, and none of Keras's backends is installed",
        where=str(source.path),
        hint="Install one: pip install jax, tensorflow or torch.",
    )


def _refuse_code(path: Path) -> None:
    for owner, name in _foreign_classes(_config(path)):
        raise LoadError(
            f"holds {owner} {name}, which is Python code that loading it would run",
            where=str(path),
            hint="Only if you trust where it comes from: trust = true in [serve], or --trust. "
            "Better, build the model of Keras's own layers, or export it as a SavedModel.",
        )


def _config(path: Path) -> Any:
    """The model's configuration as the file holds it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise LoadError(f"isn't a Keras model: {_first_line(error)}", where=str(path)) from error
    if text is None:
        raise LoadError(
            "holds weights alone, and not the model that they are for",
            where=str(path),
            hint="Save the whole model: model.save('model.keras').",
        )
    return json.loads(text)


def _foreign_classes(config: Any) -> Iterator[tuple[str, str]]:
    """Yield what in a configuration isn't Keras's own: (kind, name)."""
    if isinstance(config, list):
        for item in config:
            yield from _foreign_classes(item)
    if not isinstance(config, dict):
        return
    name = config.get("class_name")
    if name in ("Lambda", "__lambda__"):
        yield "a", "Lambda layer" if name == "Lambda" else "lambda function"
    elif name is not None:
        module = config.get("module")
        # Keras 3 writes None for plain Python types; older files have no module at all.
        outside = isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins")
        registered = (
            isinstance(config.get("registered_name"), str) and ">" in config["registered_name"]
        )
        if outside or (module is None and registered):
            yield "the class", f"{module or config['registered_name']}.{name}"
        elif isinstance(module, str) and module == "builtins" and name != "function":
            yield "the class", f"builtins.{name}"
    for value in config.values():
        yield from _foreign_classes(value)


def _named_inputs(model: Any) -> dict[str, Any]:
    names = getattr(model, "input_names", None)
    tensors = model.inputs
    if not names or len(names) != len(tensors):
        names = [item.name for item in tensors]
    return dict(zip(names, tensors, strict=True))


def _named_outputs(model: Any) -> dict[str, Any]:
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, dict):
        return {str(key): item for key, item in structure.items()}
    names = getattr(model, "output_names", None)
    if not names or len(names) != len(model.outputs):
        names = [layer.name for layer in getattr(model, "layers", [])[-1:]]
    if len(names) != len(model.outputs):
        names = [f"output_{number}" for number in range(len(model.outputs))]
    return dict(zip(names, model.outputs, strict=True))


def _spec(name: str, item: Any, source: Source) -> TensorSpec:
    kind = str(item.dtype)
    if kind == "bfloat16":
        datatype = "BF16"
    elif kind == "string":
        datatype = "BYTES"
    else:
        try:
            datatype = datatype_of(np.empty(0, dtype=kind))
        except Exception as error:
            raise LoadError(f"{name} is of {kind}", where=str(source.path)) from error
    shape = tuple(-1 if size is None else int(size) for size in item.shape)
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def _function(keras: Any, model: Any, inputs: Sequence[TensorSpec], names: Sequence[str]) -> Any:
    call = _call(keras, model)
    takes = [(spec.name, NUMPY_TYPES[spec.datatype], spec.datatype) for spec in inputs]
    by_name = isinstance(getattr(model, "_inputs_struct", None), dict)

    def infer(arrays: Arrays) -> Arrays:
        given = [_given(keras, arrays[name], datatype) for name, _, datatype in takes]
        if by_name:
            value = call(dict(zip((name for name, _, _ in takes), given, strict=True)))
        else:
            value = call(given[0] if len(given) == 1 else given)
        found = value if isinstance(value, dict) else _in_order(value, names)
        return {name: _taken(keras, found[name]) for name in names}

    return infer


def _in_order(value: Any, names: Sequence[str]) -> dict[str, Any]:
    values = value if isinstance(value, tuple | list) else [value]
    return dict(zip(names, values, strict=True))


def _call(keras: Any, model: Any) -> Callable[[Any], Any]:
    """The model as a compiled function of its backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        compiled: Callable[[Any], Any] = tf.function(
            lambda inputs: model(inputs, training=False), reduce_retracing=True
        )
        return compiled
    if backend == "jax":
        import jax

        trainable = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        stateless = jax.jit(
            lambda given: model.stateless_call(trainable, others, given, training=False)[0]
        )
        return lambda inputs: stateless(inputs)
    import torch

    def run(inputs: Any) -> Any:
        with torch.no_grad():
            return model(inputs, training=False)

    return run


def _given(keras: Any, array: np.ndarray[Any, Any], datatype: str) -> Any:
    if datatype == "BYTES":
        return keras.ops.convert_to_tensor(array, dtype="string")
    return keras.ops.convert_to_tensor(array, dtype="bfloat16" if datatype == "BF16" else None)


def _taken(keras: Any, value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
