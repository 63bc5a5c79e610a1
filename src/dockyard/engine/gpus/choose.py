"""Which GPUs a request gets, decided from what there is and who holds what.

Rules: pure. A device that one holder has whole is nobody else's; a device that nobody holds but on
which some process computes is taken too. A share of memory (`--gpu-memory`) fits where enough is
free after what other holders were promised and haven't used yet; nothing enforces it, so it is
advisory. The devices with the most free memory come first. Devices that are named are given as
they are: who names one knows why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockyard.engine.gpus.devices import Device, Inventory
    from dockyard.engine.spec import Gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds devices: a container or a start that is under way.

    memory: bytes promised on each device, None when it has them whole; container: its id, "" while
    there is none.
    """

    name: str
    devices: tuple[str, ...]
    memory: int | None = None
    container: str = ""
    pid: int = 0

    def __str__(self) -> str:
        return self.name or f"process {self.pid}"


class BusyError(EngineError):
    """Too few GPUs are free now; waiting may help."""


def choose_devices(
    gpus: Gpus,
    inventory: Inventory,
    holders: Sequence[Holder],
    *,
    owners: Mapping[int, str] | None = None,
) -> tuple[Device, ...]:
    """The devices to hand out, each once.

    owners: the container in which a process (by pid) runs, where that is known. Raises UsageError
    for devices that don't exist, BusyError when too few are free.
    """
    if gpus.ids:
        return _named(gpus.ids, inventory)
    devices = inventory.devices
    wanted = len(devices) if gpus.count is None and gpus.memory is None else gpus.count or 1
    if wanted > len(devices) or not devices:
        raise EngineError(
            f"{_gpus(wanted)} asked for, and this machine has {len(devices) or 'none'}",
            where=None if inventory.gpus else f"NVIDIA driver {inventory.driver}",
            hint="`dockyard gpus` shows them.",
        )
    if gpus.count is None and gpus.memory is None:
        return devices
    free = {device.uuid: _free_memory(device, holders, owners or {}) for device in devices}
    needed = 1 if gpus.memory is None else gpus.memory
    fitting = [
        device
        for device in devices
        if free[device.uuid] >= needed and (gpus.memory is not None or _is_unused(device, holders))
    ]
    if len(fitting) < wanted:
        raise _busy(gpus, wanted, inventory, holders, len(fitting))
    # sorted() keeps the driver's order among equals.
    return tuple(sorted(fitting, key=lambda device: -free[device.uuid])[:wanted])


def holders_of(device: Device, holders: Iterable[Holder]) -> list[Holder]:
    """Those who hold the device."""
    return [holder for holder in holders if device.uuid in holder.devices]


def _named(ids: Sequence[str], inventory: Inventory) -> tuple[Device, ...]:
    found: dict[str, Device] = {}
    for name in ids:
        device = inventory.find(name)
        if device is None:
            there = ", ".join(device.index for device in inventory.devices) or "none"
            raise UsageError(
                f"there is no GPU {name} on this machine; there are: {there}",
                hint="`dockyard gpus` shows their indexes and UUIDs.",
            )
        if device.uuid in found:
            raise UsageError(f"the GPU {name} is named twice ({device.uuid})")
        found[device.uuid] = device
    return tuple(found.values())


def _is_unused(device: Device, holders: Sequence[Holder]) -> bool:
    return not holders_of(device, holders) and not device.processes


def _free_memory(device: Device, holders: Sequence[Holder], owners: Mapping[int, str]) -> int:
    """Bytes that nobody uses and nobody was promised; 0 where a holder has it whole."""
    free = device.memory_free
    for holder in holders_of(device, holders):
        if holder.memory is None:
            return 0
        used = sum(
            each.memory or 0
            for each in device.processes
            if holder.container and owners.get(each.pid) == holder.container
        )
        free -= max(0, holder.memory - used)
    return max(0, free)


def _busy(
    gpus: Gpus, wanted: int, inventory: Inventory, holders: Sequence[Holder], free: int
) -> BusyError:
    lines = []
    for device in inventory.devices:
        users = [str(holder) for holder in holders_of(device, holders)]
        users += [] if users else [f"process {each.pid}" for each in device.processes]
        if users:
            names = ", ".join(dict.fromkeys(users))
            lines.append(f"GPU {device.index} is held by {names}")
    condition = "" if gpus.memory is None else f" with {_gib(gpus.memory)} of free memory"
    return BusyError(
        f"{_gpus(wanted)} asked for, and {free or 'none'} of {len(inventory.devices)} "
        f"{'is' if free < 2 else 'are'} free{condition}",
        hint="\n".join(["Give --wait to wait, or name one with --gpus device=…", *lines]),
    )


def _gpus(number: int) -> str:
    return "1 GPU is" if number == 1 else f"{number} GPUs are"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.3g} GiB"
