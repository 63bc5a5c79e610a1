"""TensorFlow's SavedModel folders, run by TensorFlow.

Rules: the signature `serving_default` is served, else the only one; its names, shapes and datatypes
are the model's. Operations that reach out of the graph (files, Python) are refused unless the
operator trusts the folder.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import Arrays, LoadedModel, batch_limit
from dockyard_serve.model import TensorSpec
from dockyard_serve.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dockyard_serve.model import Source

# Operations by which a graph reads, writes or runs what isn't in it.
_REACHES_OUT = frozenset(
    {
        *(
            "PyFunc",
            "PyFuncStateless",
            "EagerPyFunc",
            "ReadFile",
            "WriteFile",
            "Save",
            "SaveSlices",
        ),
        *("MatchingFiles", "PrintV2", "DebugIdentity", "DebugIdentityV2", "AudioSummary"),
        *("WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2"),
        *("ImmutableConst", "Rpc", "TryRpc", "DynamicLoadOpLibrary", "InitializeTableFromTextFile"),
    }
)
# What tf.saved_model.save itself writes for restoring variables and vocabularies.
_OWN_FUNCTIONS = ("__inference__traced_save", "__inference__traced_restore")
_OWN_OPERATIONS = frozenset({"MatchingFiles"})


def load(source: Source) -> LoadedModel:
    """Load a folder; raises LoadError when TensorFlow can't, or no signature is there to serve."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    assert source.path is not None
    if not source.options.get("trust"):
        _refuse_reaching_out(source.path)
    _set_threads(tf, source)
    try:
        loaded = tf.saved_model.load(str(source.path))
    except Exception as error:  # OpError, ValueError, OSError: they share no base but Exception.
        raise LoadError(
            f"TensorFlow can't load it: {(str(error).strip().splitlines() or [''])[0][:300]}",
            where=str(source.path),
            hint="Save it with tf.saved_model.save, or model.export of Keras.",
        ) from error
    signature = _signature(loaded.signatures, source)
    inputs = tuple(
        _spec(name, item, source) for name, item in signature.structured_input_signature[1].items()
    )
    outputs = tuple(
        _spec(name, item, source) for name, item in signature.structured_outputs.items()
    )
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="tensorflow_savedmodel",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=batch_limit(source, inputs, outputs),
        function=_function(tf, loaded, signature, inputs),
    )


def _signature(signatures: Any, source: Source) -> Any:
    name = str(source.options.get("signature", "serving_default"))
    if name in signatures:
        return signatures[name]
    if len(signatures) == 1 and "signature" not in source.options:
        return next(iter(signatures.values()))
    listed = ", ".join(signatures) or "none"
    raise LoadError(
        f"has no signature {name!r}; it has {listed}",
        where=str(source.path),
        hint='Name one in [serve]: signature = "…", or save the model with signatures.',
    )


def _set_threads(tf: Any, source: Source) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(source.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        # TensorFlow has begun to work for another model, and keeps that one's setting.
        return


def _spec(name: str, item: Any, source: Source) -> TensorSpec:
    kind = item.dtype.name
    if kind == "bfloat16":
        datatype = "BF16"
    elif kind == "string":
        datatype = "BYTES"
    else:
        try:
            datatype = datatype_of(np.empty(0, dtype=item.dtype.as_numpy_dtype))
        except Exception as error:
            raise LoadError(f"{name} is of {kind}", where=str(source.path)) from error
    if item.shape.rank is None:
        raise LoadError(
            f"doesn't say how many axes {name} has",
            where=str(source.path),
            hint="Save it with an input_signature whose shapes are known.",
        )
    shape = tuple(-1 if size is None else int(size) for size in item.shape)
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def _function(tf: Any, loaded: Any, signature: Any, inputs: Sequence[TensorSpec]) -> Any:
    kinds = {spec.name: tf.bfloat16 if spec.datatype == "BF16" else None for spec in inputs}

    def infer(arrays: Arrays, *, kept: Any = loaded) -> Arrays:
        # `kept`: the variables live as long as the object that was loaded.
        given = {
            name: tf.cast(arrays[name], kind) if kind is not None else tf.constant(arrays[name])
            for name, kind in kinds.items()
        }
        return {name: _array(value) for name, value in signature(**given).items()}

    return infer


def _array(value: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = value.numpy()
    if not isinstance(array, np.ndarray):
        array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _refuse_reaching_out(folder: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    document = SavedModel()
    try:
        document.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise LoadError(f"isn't a SavedModel: {error}", where=str(folder)) from error
    found = sorted({name for name in _operations(document) if name in _REACHES_OUT})
    if found:
        raise LoadError(
            f"holds operations that reach out of the model: {', '.join(found)}",
            where=str(folder),
            hint="Only if you trust where it comes from: trust = true in [serve], or --trust.",
        )


def _operations(document: Any) -> Iterator[str]:
    for graph in document.meta_graphs:
        saver = graph.saver_def.filename_tensor_name
        for node in graph.graph_def.node:
            # Savers of older files lie in the graph itself.
            if not (saver and node.name.startswith("save/")):
                yield node.op
        for function in graph.graph_def.library.function:
            own = function.signature.name.startswith(_OWN_FUNCTIONS)
            for node in function.node_def:
                if not own:
                    yield node.op
