"""Ask NVIDIA's driver which GPUs there are, through NVML (libnvidia-ml.so.1).

Rules: NVML's errors become EngineError in `_session`. A value that a driver or a card doesn't
give is None or "", never an error: old drivers, vGPUs and MIG instances all lack some.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dockyard.engine.gpus.devices import Device, Gpu, GpuProcess, Inventory
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class NoDriverError(EngineError):
    """This machine has no NVIDIA driver."""


def read_inventory() -> Inventory:
    """Every GPU with its memory, load, MIG instances and processes.

    Raises NoDriverError without a driver's library, EngineError when the driver doesn't answer.
    """
    with _session() as nvml:
        return Inventory(
            driver=_text(_ask(nvml, nvml.nvmlSystemGetDriverVersion) or ""),
            cuda=_cuda_version(_ask(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)),
            gpus=tuple(_read_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())),
        )


@contextmanager
def _session() -> Iterator[Any]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except (
        pynvml.NVMLError_LibraryNotFound,
        pynvml.NVMLError_DriverNotLoaded,
    ) as error:
        raise NoDriverError(
            "no NVIDIA driver found on this machine",
            hint="Install NVIDIA's driver (its library libnvidia-ml.so.1 and kernel module are "
            "looked for), or run without --gpus.",
        ) from error
    except pynvml.NVMLError as error:
        raise _broken(error) from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise _broken(error) from error
    finally:
        pynvml.nvmlShutdown()


def _broken(error: Exception) -> EngineError:
    text = str(error)
    hint = "Run nvidia-smi: it asks the same driver."
    if "version mismatch" in text.lower():
        hint = "The driver was updated under the running kernel module: restart the machine."
    return EngineError(f"the NVIDIA driver doesn't answer: {text}", hint=hint)


def _ask(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this driver or device has none."""
    try:
        return question(*arguments)
    except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
        return None


def _read_gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    mode = _ask(nvml, nvml.nvmlDeviceGetMigMode, handle)
    mig = mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
    capability = _ask(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        device=_read_device(nvml, handle, str(index)),
        mig=mig,
        instances=tuple(_instances(nvml, handle, index)) if mig else (),
        compute_capability="" if capability is None else f"{capability[0]}.{capability[1]}",
        brand=_brand(nvml, _ask(nvml, nvml.nvmlDeviceGetBrand, handle)),
    )


def _instances(nvml: Any, handle: Any, index: int) -> Iterator[Device]:
    for number in range(_ask(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        # Slots may be empty: the driver says "not found" for those.
        instance = _ask(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if instance is not None:
            yield _read_device(nvml, instance, f"{index}:{number}")


def _read_device(nvml: Any, handle: Any, index: str) -> Device:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    load = _ask(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    # What draws on a screen uses a GPU too, but doesn't take it from anybody: only CUDA's count.
    running = _ask(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    if running is None:  # A driver before 510.
        running = _ask(nvml, nvml.nvmlDeviceGetComputeRunningProcesses_v2, handle)
    processes = {
        each.pid: GpuProcess(pid=each.pid, memory=each.usedGpuMemory) for each in running or ()
    }
    return Device(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_total=int(memory.total),
        memory_free=int(memory.free),
        utilisation=None if load is None else int(load.gpu),
        processes=tuple(processes.values()),
    )


def _brand(nvml: Any, number: int | None) -> str:
    """The name that NVIDIA_REQUIRE_… conditions use: NVML_BRAND_QUADRO_RTX -> "quadrortx"."""
    for name in dir(nvml):
        if name.startswith("NVML_BRAND_") and getattr(nvml, name) == number:
            return name.removeprefix("NVML_BRAND_").replace("_", "").lower()
    return ""


def _text(value: str | bytes) -> str:
    # Bindings before version 11.5 give bytes.
    return value.decode() if isinstance(value, bytes) else value


def _cuda_version(number: int | None) -> str:
    """12080 -> "12.8": NVML writes major * 1000 + minor * 10."""
    return "" if not number else f"{number // 1000}.{number % 1000 // 10}"
