"""GPUs as the driver describes them: devices, MIG instances, processes.

Rules: sizes are bytes. What `--gpus` hands out are `Device`s: whole GPUs, or the MIG instances of
a GPU that is cut into them, never both. Nothing here asks the driver; see `inventory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process of the host that computes on a device; memory: bytes, None where it isn't told."""

    pid: int
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What can be handed to a container: a GPU or a MIG instance.

    index: "0", or "0:1" for the second instance of GPU 0 (NVIDIA's own way to name it).
    utilisation: percent of the last sample period, None where it isn't measured (MIG).
    """

    index: str
    uuid: str
    name: str
    memory_total: int
    memory_free: int
    utilisation: int | None = None
    processes: tuple[GpuProcess, ...] = ()

    @property
    def memory_used(self) -> int:
        """Bytes in use."""
        return self.memory_total - self.memory_free

    def is_called(self, name: str) -> bool:
        """Whether a person may mean it by this index or UUID (or the start of one)."""
        return name == self.index or (len(name) >= 8 and self.uuid.startswith(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A card; instances: its MIG instances, empty unless it is cut into them."""

    device: Device
    mig: bool = False
    instances: tuple[Device, ...] = ()
    compute_capability: str = ""
    brand: str = ""

    @property
    def devices(self) -> tuple[Device, ...]:
        """What of it can be handed out."""
        return self.instances if self.mig else (self.device,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All NVIDIA GPUs of this machine; cuda: the newest CUDA the driver runs, as in "12.8"."""

    driver: str
    cuda: str
    gpus: tuple[Gpu, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        """Everything that can be handed out, in the driver's order."""
        return tuple(device for gpu in self.gpus for device in gpu.devices)

    def find(self, name: str) -> Device | None:
        """The device with this index or UUID; None when there is none, or several."""
        whole = [gpu.device for gpu in self.gpus if gpu.device.is_called(name)]
        found = [device for device in self.devices if device.is_called(name)] or whole
        return found[0] if len(found) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """For programs: memory in bytes."""
        return {
            "driver": self.driver,
            "cuda": self.cuda,
            "gpus": [
                {
                    **_device_json(gpu.device),
                    "compute_capability": gpu.compute_capability,
                    "mig": gpu.mig,
                    "instances": [_device_json(instance) for instance in gpu.instances],
                }
                for gpu in self.gpus
            ],
        }


def _device_json(device: Device) -> dict[str, Any]:
    return {
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "memory_total": device.memory_total,
        "memory_free": device.memory_free,
        "utilisation": device.utilisation,
        "processes": [{"pid": each.pid, "memory": each.memory} for each in device.processes],
    }
