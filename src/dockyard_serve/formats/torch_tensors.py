"""Between PyTorch's tensors and the server's arrays: specs, devices, and the call itself.

Rules: BF16 is float32 outside and bfloat16 inside. Inference mode is on, gradients are off. The
number of threads is PyTorch's setting for the process, so the last model loaded decides it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import Arrays
from dockyard_serve.model import TensorSpec
from dockyard_serve.tensors import datatype_of

if TYPE_CHECKING:
    from dockyard_serve.model import Source

Function = Callable[[Arrays], Arrays]


def set_threads(torch: Any, source: Source) -> None:
    """Give PyTorch as many threads as the server has for this model."""
    torch.set_num_threads(max(1, source.threads))


def choose_device(torch: Any, source: Source) -> Any:
    """CUDA where there is one, unless the configuration says otherwise; raises LoadError."""
    said = str(source.options.get("device", "auto"))
    available = bool(torch.cuda.is_available())
    if said.startswith("cuda") and not available:
        raise LoadError(
            f'device = "{said}", but PyTorch sees no CUDA device here', where=str(source.path)
        )
    if said == "auto":
        said = "cuda" if available else "cpu"
    try:
        return torch.device(said)
    except RuntimeError as error:
        raise LoadError(f"device = {said!r} is none of PyTorch's", where="configuration") from error


def spec_of(
    name: str, dtype: Any, sizes: Iterable[Any], source: Source, *, free_batch: bool = False
) -> TensorSpec:
    """The spec of a tensor; symbolic sizes are free axes."""
    kind = str(dtype).removeprefix("torch.")
    if kind == "bfloat16":
        datatype = "BF16"
    else:
        try:
            datatype = datatype_of(np.empty(0, dtype=kind))
        except Exception as error:  # complex and quantised types
            raise LoadError(
                f"{name} is of {kind}, which no protocol can carry", where=str(source.path)
            ) from error
    # A symbolic size is no int; asking it for its value would fix it.
    shape = [size if type(size) is int else -1 for size in sizes]
    if free_batch and shape:
        shape[0] = -1
    return TensorSpec(name=name, datatype=datatype, shape=tuple(shape))


def to_tensor(torch: Any, array: np.ndarray[Any, Any], datatype: str, device: Any) -> Any:
    """An array as a tensor on the device; a read-only array (bytes of a request) is copied."""
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.to(device, torch.bfloat16) if datatype == "BF16" else tensor.to(device)


def to_array(torch: Any, value: Any) -> np.ndarray[Any, Any]:
    """A tensor as an array: BF16 as float32."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    array: np.ndarray[Any, Any] = (
        value.float() if value.dtype is torch.bfloat16 else value
    ).numpy()
    return array


def named_outputs(value: Any) -> dict[str, Any]:
    """What a module gives, by name: a dictionary's keys, else `output`, or `output_0` and so on."""
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, tuple | list):
        if hasattr(value, "_asdict"):
            return dict(value._asdict())
        if len(value) > 1:
            return {f"output_{number}": item for number, item in enumerate(value)}
        (value,) = value
    return {"output": value}


def module_function(
    torch: Any, module: Any, names: Sequence[str], inputs: Sequence[TensorSpec], device: Any
) -> Function:
    """A call of the module with its inputs in order."""
    kinds = [spec.datatype for spec in inputs]

    def infer(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            given = [
                to_tensor(torch, arrays[name], kind, device)
                for name, kind in zip(names, kinds, strict=True)
            ]
            found = named_outputs(module(*given))
            return {name: to_array(torch, value) for name, value in found.items()}

    return infer
