"""Whole modules saved with `torch.save(module)`: pickles, loaded only when they are trusted.

Rules: a file of weights alone is no model, and is told so. The classes that the pickle names must
be importable where it is served, so a lone file works only for modules of PyTorch's own classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import LoadedModel, batch_limit, output_specs, specs_from_options
from dockyard_serve.formats.refusal import weights_alone
from dockyard_serve.formats.torch_tensors import (
    choose_device,
    module_function,
    set_threads,
)

if TYPE_CHECKING:
    from dockyard_serve.model import Source


def load(source: Source) -> LoadedModel:
    """Unpickle a trusted module; raises LoadError when it is none, or its inputs aren't stated."""
    import torch

    assert source.path is not None

    set_threads(torch, source)
    device = choose_device(torch, source)
    try:
        module = torch.load(str(source.path), map_location=device, weights_only=False)
    except Exception as error:  # Unpickling runs the file's own code.
        raise LoadError(f"PyTorch can't load it: {error}", where=str(source.path)) from error
    if not isinstance(module, torch.nn.Module):
        raise weights_alone(source.path)
    inputs = specs_from_options(source)
    if inputs is None:
        raise LoadError(
            "doesn't say what its inputs are",
            where=str(source.path),
            hint='State them in [serve]: inputs = { x = "FP32 [-1, 8]" }.',
        )
    module.eval()
    function = module_function(torch, module, [spec.name for spec in inputs], inputs, device)
    outputs = output_specs(function, inputs, source)
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="pytorch_module",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=batch_limit(source, inputs, outputs),
        function=function,
    )
