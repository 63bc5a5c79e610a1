"""GPUs for one container: chosen, leased, followed to its end.

Rules: `take_gpus` before the container is made, `settle` when it has started, `release` when that
failed. The choice is made under the lock of the lease file, so two commands never get one device.
Only NVIDIA's devices on the engine's own machine are chosen and leased; what is named by CDI, and
what a far engine has, is passed on as it was asked for.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockyard.engine.gpus.choose import BusyError, Holder, choose_devices, holders_of
from dockyard.engine.gpus.inventory import read_inventory
from dockyard.engine.gpus.leases import Lease, open_leases, process_start
from dockyard.engine.gpus.requires import unmet_requirement
from dockyard.engine.spec import Gpus, is_cdi_name
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockyard.engine.api import ContainerState, Engine, LocalImage
    from dockyard.engine.gpus.devices import Device, Inventory
    from dockyard.engine.spec import ContainerSpec

DEVICES = "dockyard.gpus"
"""The label with the UUIDs that a container holds, with commas between."""

MEMORY = "dockyard.gpu-memory"
"""The label with the bytes it was promised on each; absent when it has them whole."""

_PAUSE = 1.0  # Seconds between two looks for free GPUs.
_HERE = ("127.0.0.1", "::1", "localhost")
_HOLDING = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Devices handed to a container; spec names them; empty where nothing was leased."""

    spec: ContainerSpec
    devices: tuple[Device, ...] = ()

    def settle(self, engine: Engine, container: str) -> None:
        """Tie the lease to the started container: it ends with the container's first process."""
        if not self.devices:
            return
        try:
            pids = [process.pid for process in engine.processes(container)]
        except EngineError:
            pids = []  # It has ended already, or the engine doesn't tell: its label remains.
        alive = [pid for pid in pids if process_start(pid) is not None]
        with open_leases() as table:
            leases = []
            for lease in table.read():
                mine = self._is_mine(lease)
                if mine and alive:
                    holder = replace(lease.holder, container=container)
                    leases.append(Lease.of(holder, min(alive)))
                elif not mine:
                    leases.append(lease)
            table.write(leases)

    def release(self) -> None:
        """Give the devices back: the container wasn't started."""
        if self.devices:
            with open_leases() as table:
                table.write([lease for lease in table.read() if not self._is_mine(lease)])

    def _is_mine(self, lease: Lease) -> bool:
        uuids = tuple(device.uuid for device in self.devices)
        return lease.holder.pid == os.getpid() and lease.holder.devices == uuids


def take_gpus(
    spec: ContainerSpec,
    engine: Engine,
    *,
    image: LocalImage | None = None,
    reporter: Reporter = SILENT,
) -> Grant:
    """Choose and lease what the specification asks for; its ids are UUIDs afterwards.

    Raises NoDriverError without a driver, BusyError when too few are
    free, EngineError when the image's CUDA doesn't run on this driver.
    """
    gpus = spec.gpus
    if gpus is None or (gpus.ids and all(is_cdi_name(name) for name in gpus.ids)):
        return Grant(spec=spec)
    if engine.info.address not in _HERE:
        reporter.warn("The engine is on another machine: its GPUs aren't chosen or leased here")
        return Grant(spec=spec)
    named = replace(gpus, ids=tuple(name for name in gpus.ids if not is_cdi_name(name)))
    told = False
    while True:
        inventory = read_inventory()
        if not told:
            _check_cuda(spec, image, inventory)
        try:
            devices = _lease(spec, named, engine, inventory, reporter)
        except BusyError as error:
            if not gpus.wait:
                raise
            if not told:
                reporter.note(f"Waiting: {error.what}")
            told = True
            time.sleep(_PAUSE)
            continue
        return Grant(spec=_with_devices(spec, gpus, devices), devices=devices)


def holders(engine: Engine | None, leases: Iterable[Lease]) -> list[Holder]:
    """Who holds GPUs: the living leases, and the engine's containers that run without one."""
    found = [lease.holder for lease in leases]
    leased = {holder.container for holder in found}
    states = engine.containers(label=DEVICES) if engine is not None else ()
    found += [
        _holder_of(state) for state in states if state.status in _HOLDING and state.id not in leased
    ]
    return found


def owners(engine: Engine | None, held: Iterable[Holder]) -> dict[int, str]:
    """In which container each process runs, as far as the engine tells."""
    known: dict[int, str] = {}
    for holder in held:
        if engine is not None and holder.container:
            try:
                processes = engine.processes(holder.container)
            except EngineError:
                continue  # It is another engine's, or has just ended.
            known |= {process.pid: holder.container for process in processes}
    return known


def _lease(
    spec: ContainerSpec, gpus: Gpus, engine: Engine, inventory: Inventory, reporter: Reporter
) -> tuple[Device, ...]:
    with open_leases() as table:
        leases = table.read()
        held = holders(engine, leases)
        shared = owners(engine, held) if gpus.memory is not None else {}
        devices = choose_devices(gpus, inventory, held, owners=shared)
        for device in devices if gpus.memory is None else ():
            if others := holders_of(device, held):
                names = ", ".join(map(str, others))
                reporter.warn(f"GPU {device.index} is held by {names} too")
        holder = Holder(
            name=spec.name or spec.image,
            devices=tuple(device.uuid for device in devices),
            memory=gpus.memory,
        )
        table.write([*leases, Lease.of(holder, os.getpid())])
    if gpus.memory is not None:
        reporter.note("Shares of GPU memory are advisory: nothing holds a process to its share")
    return devices


def _with_devices(spec: ContainerSpec, gpus: Gpus, devices: tuple[Device, ...]) -> ContainerSpec:
    uuids = tuple(device.uuid for device in devices)
    cdi = tuple(name for name in gpus.ids if is_cdi_name(name))
    labels = {**spec.labels, DEVICES: ",".join(uuids)}
    if gpus.memory is not None:
        labels[MEMORY] = str(gpus.memory)
    return replace(spec, gpus=replace(gpus, count=None, ids=(*uuids, *cdi)), labels=labels)


def _holder_of(state: ContainerState) -> Holder:
    memory = state.labels.get(MEMORY, "")
    return Holder(
        name=state.name,
        devices=tuple(state.labels.get(DEVICES, "").split(",")),
        memory=int(memory) if memory.isdigit() else None,
        container=state.id,
    )


def _check_cuda(spec: ContainerSpec, image: LocalImage | None, inventory: Inventory) -> None:
    environment = {**image_environment(image), **spec.environment}
    unmet = unmet_requirement(environment, inventory)
    if unmet is not None:
        raise EngineError(
            f"the image needs another NVIDIA driver: it asks for {unmet}, and this one "
            f"({inventory.driver}) runs CUDA up to {inventory.cuda}",
            where=spec.image,
            hint="Update the driver, or build the image with an older CUDA. To try it all the "
            "same: -e NVIDIA_DISABLE_REQUIRE=1.",
        )


def image_environment(image: LocalImage | None) -> Mapping[str, str]:
    """The variables that an image sets."""
    config = {} if image is None else image.config
    return dict(item.partition("=")[::2] for item in config.get("Env") or ())
