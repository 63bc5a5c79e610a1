"""Functions of `jax.export`, serialized to a file, run by JAX.

Rules: arguments have the names of the keyword arguments that the function was exported with, else
`input`, or `input_0` and so on; outputs those of the dictionary that it gives, else `output` …
Symbolic sizes are free. StableHLO holds no Python, and JAX refuses calls that it doesn't know to be
stable. Every new number of rows is compiled anew, so batches are padded to powers of two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import Arrays, LoadedModel, batch_limit, in_powers_of_two
from dockyard_serve.model import TensorSpec
from dockyard_serve.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard_serve.model import Source


def load(source: Source) -> LoadedModel:
    """Read an exported function; raises LoadError when JAX can't."""
    import jax
    from jax import export

    assert source.path is not None
    try:
        exported = export.deserialize(bytearray(source.path.read_bytes()))
    except Exception as error:  # Damaged flatbuffers raise whatever reading them meets.
        raise LoadError(
            f"JAX {jax.__version__} can't read it: {str(error)[:300]}",
            where=str(source.path),
            hint="Write it with jax.export.export(…).serialize(), by a JAX of the last half year.",
        ) from error
    platform = jax.default_backend()
    if platform not in exported.platforms:
        raise LoadError(
            f"was exported for {', '.join(exported.platforms)}, and this is {platform}",
            where=str(source.path),
            hint=f'Export it with platforms=["{platform}"].',
        )
    inputs = _specs(exported.in_tree, exported.in_avals, "input", source)
    outputs = _specs(exported.out_tree, exported.out_avals, "output", source)
    limit = _batch(source, exported, inputs, outputs)
    function = _function(jax, exported, inputs, outputs)
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="jax_export",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=limit,
        function=in_powers_of_two(function) if limit else function,
    )


def _batch(
    source: Source, exported: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> int | None:
    """The batch, if all first axes are the same symbolic size."""
    first = {
        str(value.shape[0]) for value in (*exported.in_avals, *exported.out_avals) if value.shape
    }
    if len(first) > 1 and source.options.get("max_batch_size") is None:
        return None
    return batch_limit(source, inputs, outputs)


def _specs(tree: Any, values: Sequence[Any], word: str, source: Source) -> tuple[TensorSpec, ...]:
    import jax

    paths, _ = jax.tree_util.tree_flatten_with_path(
        jax.tree_util.tree_unflatten(tree, list(range(len(values))))
    )
    specs = []
    for path, index in paths:
        keys = [str(getattr(part, "key", getattr(part, "idx", part))) for part in path]
        # The tree of arguments is (positional, by keyword).
        keys = keys[1:] if word == "input" else keys
        name = "_".join(keys)
        if not name or name.replace("_", "").isdecimal():
            name = f"{word}_{index}" if len(values) > 1 else word
        specs.append(_spec(name, values[index], source))
    return tuple(specs)


def _spec(name: str, value: Any, source: Source) -> TensorSpec:
    kind = str(value.dtype)
    try:
        datatype = "BF16" if kind == "bfloat16" else datatype_of(np.empty(0, dtype=kind))
    except Exception as error:
        raise LoadError(
            f"{name} is of {kind}, which no protocol can carry", where=str(source.path)
        ) from error
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def _function(
    jax: Any, exported: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Any:
    call = jax.jit(exported.call)
    takes = [
        (spec.name, value.dtype) for spec, value in zip(inputs, exported.in_avals, strict=True)
    ]
    names = [spec.name for spec in outputs]

    def infer(arrays: Arrays) -> Arrays:
        leaves = [np.asarray(arrays[name], dtype=kind) for name, kind in takes]
        args, kwargs = jax.tree_util.tree_unflatten(exported.in_tree, leaves)
        found = jax.tree_util.tree_leaves(call(*args, **kwargs))
        return {name: _array(value) for name, value in zip(names, found, strict=True)}

    return infer


def _array(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
