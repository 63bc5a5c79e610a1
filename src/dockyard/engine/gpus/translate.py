"""How an engine is told which GPUs a container gets: device requests, CDI names or the runtime.

Rules: pure; what the engine has is read from what it says of itself (GET /info, API 1.41 and
newer). CDI names ("amd.com/gpu=0") are passed on as they are, whoever's devices they are.

- Docker with discovered CDI devices, and Podman from 5.4 on: CDI names in a device request.
- Docker with the runtime `nvidia` registered: that runtime and NVIDIA_VISIBLE_DEVICES.
- Any other Docker: a device request, which needs NVIDIA's hook on dockerd's PATH and fails at the
  start without it.
- Podman before 5.4: its socket ignores every such field without a word, so it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockyard.engine.spec import is_cdi_name
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockyard.engine.spec import Gpus

CAPABILITIES = "compute,utility"
"""What of the driver is mounted unless the image asks for more: CUDA, and nvidia-smi."""

NVIDIA = "nvidia.com/gpu"
CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))

_PODMAN_CDI = (5, 4)

Handover = Literal["requests", "runtime", "cdi"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFields:
    """What goes into POST /containers/create: fields of HostConfig, and variables."""

    host: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def choose_handover(
    info: Mapping[str, Any], *, podman_version: str | None = None, local_kinds: Iterable[str] = ()
) -> Handover:
    """How this engine takes GPUs, from its /info; raises EngineError when it can't.

    podman_version: of Podman's socket, None for Docker; local_kinds: the CDI kinds that files on
    this machine describe, where the engine is on it.
    """
    if podman_version is not None:
        spoken = tuple(int(part) for part in re.findall(r"\d+", podman_version)[:2])
        if spoken < _PODMAN_CDI:
            raise EngineError(
                "this engine can't hand GPUs to containers: before version 5.4 Podman's socket "
                "ignores the request",
                where=f"Podman {podman_version}",
                hint="Use Podman 5.4 or newer, or Docker with the NVIDIA Container Toolkit; or "
                "run without --gpus.",
            )
        return "cdi"
    discovered = [str(device.get("ID") or "") for device in info.get("DiscoveredDevices") or ()]
    if any(name.startswith(f"{NVIDIA}=") for name in discovered):
        return "cdi"
    if "nvidia" in (info.get("Runtimes") or {}):
        return "runtime"
    return "cdi" if info.get("CDISpecDirs") and NVIDIA in local_kinds else "requests"


def local_cdi_kinds(folders: Sequence[Path] = CDI_FOLDERS) -> frozenset[str]:
    """The kinds of devices ("nvidia.com/gpu") that this machine's CDI files describe."""
    kinds: set[str] = set()
    for folder in folders:
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.suffix in (".json", ".yaml", ".yml"):
                # One key of a file that is JSON or YAML: no need to parse either.
                text = path.read_text(errors="replace")
                kinds.update(re.findall(r"""["']?kind["']?\s*:\s*["']?([\w.-]+/[\w.-]+)""", text))
    return frozenset(kinds)


def device_fields(gpus: Gpus, handover: Handover) -> DeviceFields:
    """The request's fields for these GPUs."""
    names = [name for name in gpus.ids if is_cdi_name(name)]
    ids = [name for name in gpus.ids if name not in names]
    requests: list[dict[str, Any]] = []
    host: dict[str, Any] = {}
    environment: dict[str, str] = {}
    if handover == "cdi":
        if not gpus.ids:
            ids = ["all"] if gpus.count is None else [str(each) for each in range(gpus.count)]
        names += [f"{NVIDIA}={each}" for each in ids]
    elif ids or not gpus.ids:
        if handover == "runtime":
            counted = "all" if gpus.count is None else ",".join(map(str, range(gpus.count)))
            host["Runtime"] = "nvidia"
            environment["NVIDIA_VISIBLE_DEVICES"] = ",".join(ids) or counted
        else:
            request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
            if ids:
                request["DeviceIDs"] = ids
            else:
                request["Count"] = -1 if gpus.count is None else gpus.count
            requests.append(request)
    if names:
        requests.append({"Driver": "cdi", "DeviceIDs": names})
    if requests:
        host["DeviceRequests"] = requests
    return DeviceFields(host=host, environment=environment)
