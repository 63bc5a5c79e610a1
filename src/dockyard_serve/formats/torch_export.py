"""Programs of `torch.export.save`, run by PyTorch.

Rules: names are those of the exported function's arguments, shapes and datatypes the program's;
an axis is free if it was exported with a dynamic size. Outputs have the names of the dictionary
that the function gives, else `output`, `output_0` …
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import Arrays, LoadedModel, batch_limit
from dockyard_serve.formats.torch_safety import refuse_file_access, refuse_foreign_pickles
from dockyard_serve.formats.torch_tensors import (
    Function,
    choose_device,
    named_outputs,
    set_threads,
    spec_of,
    to_array,
    to_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard_serve.model import Source, TensorSpec


def load(source: Source) -> LoadedModel:
    """Load a program; raises LoadError when PyTorch can't."""
    import torch

    refuse_foreign_pickles(source)
    refuse_file_access(source)
    set_threads(torch, source)
    device = choose_device(torch, source)
    try:
        program = torch.export.load(str(source.path))
    except Exception as error:  # Serde errors, zip errors, KeyErrors of missing parts.
        raise LoadError(
            f"PyTorch can't load it: {(str(error).strip().splitlines() or [''])[0][:300]}",
            where=str(source.path),
            hint="Export it with the PyTorch that serves it: programs of much older ones are "
            "refused.",
        ) from error
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    inputs = _inputs(program, source)
    outputs, names = _outputs(torch, program, source)
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="pytorch_export",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=batch_limit(source, inputs, outputs, most=_largest_batch(program)),
        function=_function(torch, program, inputs, names, device),
    )


def _placeholders(program: Any) -> dict[str, Any]:
    return {
        node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"
    }


def _inputs(program: Any, source: Source) -> tuple[TensorSpec, ...]:
    values = _placeholders(program)
    specs = []
    for name in program.graph_signature.user_inputs:
        value: Any = values.get(name)
        if not hasattr(value, "dtype") or not hasattr(value, "shape"):
            raise LoadError(
                f"the input {name} isn't a tensor",
                where=str(source.path),
                hint="Export a function that takes tensors only.",
            )
        specs.append(spec_of(name, value.dtype, value.shape, source))
    return tuple(specs)


def _outputs(torch: Any, program: Any, source: Source) -> tuple[tuple[TensorSpec, ...], list[str]]:
    last = next(node for node in program.graph.nodes if node.op == "output")
    signature = program.graph_signature
    # Mutated buffers stand before the user's outputs.
    values = [item.meta.get("val") for item in last.args[0][-len(signature.user_outputs) :]]
    tree = torch.utils._pytree.tree_unflatten(list(range(len(values))), program.call_spec.out_spec)
    named = named_outputs(tree)
    specs = []
    for name, index in named.items():
        if not isinstance(index, int) or not hasattr(values[index], "dtype"):
            raise LoadError(
                f"the output {name} isn't a tensor",
                where=str(source.path),
                hint="Export a function that gives a tensor, or a flat dictionary of tensors.",
            )
        specs.append(spec_of(name, values[index].dtype, values[index].shape, source))
    return tuple(specs), list(named)


def _largest_batch(program: Any) -> int | None:
    """The smallest upper bound of a dynamic size, which the batch may be; None without bounds."""
    bounds = [
        int(value.upper) for value in program.range_constraints.values() if value.upper.is_Integer
    ]
    return min(bounds) if bounds else None


def _function(
    torch: Any, program: Any, inputs: Sequence[TensorSpec], names: Sequence[str], device: Any
) -> Function:
    module = program.module()
    tree = torch.utils._pytree
    in_spec = program.call_spec.in_spec
    kinds = [(spec.name, spec.datatype) for spec in inputs]

    def infer(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            leaves = [to_tensor(torch, arrays[name], kind, device) for name, kind in kinds]
            args, kwargs = tree.tree_unflatten(leaves, in_spec)
            found = named_outputs(module(*args, **kwargs))
            return {name: to_array(torch, found[name]) for name in names}

    # Loading warns of constructs that only training uses.
    warnings.filterwarnings("ignore", module=r"torch\.export.*")
    return infer
