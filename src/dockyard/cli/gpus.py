"""`dockyard gpus`: the GPUs of this machine, and who holds which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dockyard.engine.api import Engine
    from dockyard.engine.gpus.choose import Holder
    from dockyard.engine.gpus.devices import Device, Inventory


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gpus(*, as_json: bool) -> None:
    """Show NVIDIA's GPUs: memory, load, MIG instances, and which container holds which."""
    from dockyard.engine.gpus.grant import holders, owners
    from dockyard.engine.gpus.inventory import read_inventory
    from dockyard.engine.gpus.leases import open_leases

    inventory = read_inventory()
    engine = _engine_if_any()
    with open_leases() as table:
        held = holders(engine, table.read())
    inside = owners(engine, held)
    if as_json:
        print(json.dumps(_to_json(inventory, held, inside), indent=2))
    else:
        _print(inventory, held, inside)


def _engine_if_any() -> Engine | None:
    """The engine, which isn't needed to look at GPUs."""
    from dockyard.engine.connect import find_engine
    from dockyard.errors import EngineError

    try:
        return find_engine()
    except EngineError:
        return None


def _users(device: Device, held: list[Holder], inside: dict[int, str]) -> list[str]:
    """Who holds the device, then the processes on it that belong to no holder."""
    from dockyard.engine.gpus.choose import holders_of

    found = holders_of(device, held)
    names = [
        str(holder) if holder.memory is None else f"{holder} ({_gib(holder.memory)})"
        for holder in found
    ]
    ours = {holder.pid for holder in found} | set(inside)
    strangers = [process.pid for process in device.processes if process.pid not in ours]
    return names + [f"{_command(pid)} (pid {pid})" for pid in strangers]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "process"


def _print(inventory: Inventory, held: list[Holder], inside: dict[int, str]) -> None:
    from dockyard.cli.output import print_table

    print(f"NVIDIA driver {inventory.driver}, CUDA {inventory.cuda or 'unknown'}\n")
    rows = []
    for gpu in inventory.gpus:
        rows += [_row(gpu.device, "cut into instances" if gpu.mig else "", held, inside)]
        rows += [_row(instance, "", held, inside) for instance in gpu.instances]
    print_table(("gpu", "name", "memory", "load", "uuid", "held by"), rows, "memory load", "name")


def _row(device: Device, note: str, held: list[Holder], inside: dict[int, str]) -> list[str]:
    load = "" if device.utilisation is None else f"{device.utilisation} %"
    memory = f"{_gib(device.memory_used)} of {_gib(device.memory_total)}"
    users = note or ", ".join(_users(device, held, inside)) or "free"
    return [device.index, device.name, memory, load, device.uuid, users]


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _to_json(inventory: Inventory, held: list[Holder], inside: dict[int, str]) -> dict[str, Any]:
    return {
        **inventory.to_json(),
        "holders": [
            {
                "name": holder.name,
                "devices": list(holder.devices),
                "memory": holder.memory,
                "container": holder.container or None,
                "pid": holder.pid or None,
            }
            for holder in held
        ],
    }
