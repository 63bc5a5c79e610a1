"""TorchScript files (`torch.jit.save`), run by PyTorch.

Rules: names and the number of inputs are the signature of `forward`. Shapes and datatypes are those
of the example that the module was traced with, its first axis taken for a free batch; a scripted
module doesn't hold any, so the configuration must state them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import LoadedModel, batch_limit, output_specs, specs_from_options
from dockyard_serve.formats.torch_safety import refuse_file_access
from dockyard_serve.formats.torch_tensors import (
    choose_device,
    module_function,
    set_threads,
    spec_of,
)

if TYPE_CHECKING:
    from dockyard_serve.model import Source, TensorSpec


def load(source: Source) -> LoadedModel:
    """Load a module; raises LoadError when PyTorch can't, or nothing says its inputs' shapes."""
    import torch

    refuse_file_access(source)
    set_threads(torch, source)
    device = choose_device(torch, source)
    try:
        module = torch.jit.load(str(source.path), map_location=device, _restore_shapes=True).eval()
    except (RuntimeError, ValueError) as error:
        raise LoadError(
            f"PyTorch can't load it: {str(error).strip().splitlines()[0][:300]}",
            where=str(source.path),
            hint="Save it with this PyTorch, or an older one.",
        ) from error
    inputs = specs_from_options(source) or _traced(module, source)
    function = module_function(torch, module, [spec.name for spec in inputs], inputs, device)
    outputs = output_specs(function, inputs, source)
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="pytorch_torchscript",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=batch_limit(source, inputs, outputs),
        function=function,
    )


def _traced(module: Any, source: Source) -> tuple[TensorSpec, ...]:
    """The inputs as the graph states them, which it does if the module was traced."""
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    types = [item.type() for item in module.graph.inputs()][1:]
    known = all(kind.kind() == "TensorType" and kind.sizes() and kind.dtype() for kind in types)
    if not names or len(types) != len(names) or not known:
        listed = ", ".join(f'{name} = "FP32 [-1, 8]"' for name in names) or 'x = "FP32 [-1, 8]"'
        raise LoadError(
            f"doesn't say the shapes of its inputs ({', '.join(names)}), as scripted modules don't",
            where=str(source.path),
            hint=f"State them in [serve]: inputs = {{ {listed} }}, or use torch.export.",
        )
    return tuple(
        spec_of(name, kind.dtype(), kind.sizes(), source, free_batch=True)
        for name, kind in zip(names, types, strict=True)
    )
