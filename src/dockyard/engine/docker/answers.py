"""What Docker and Podman answer, read into the nouns of `state`.

Rules: pure functions from JSON. Podman writes some names and states in its own way.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any, Literal

from dockyard.engine.docker.link import architecture_of
from dockyard.engine.spec import Port, Volume
from dockyard.engine.state import (
    ContainerState,
    LocalImage,
    NamedVolume,
    Network,
    PathInfo,
    ProcessLine,
    Usage,
    health_patience,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GO_FOLDER = 1 << 31
_GO_LINK = 1 << 27
# ModeDevice, ModeNamedPipe, ModeSocket, ModeCharDevice, ModeIrregular.
_GO_SPECIAL = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19


def read_image(value: Mapping[str, Any]) -> LocalImage:
    """An image, from GET /images/NAME/json."""
    rootfs = value.get("RootFS") or {}
    return LocalImage(
        id=str(value["Id"]),
        references=image_names(value),
        layers=tuple(rootfs.get("Layers") or ()),
        architecture=architecture_of(str(value.get("Architecture") or "")),
        os=str(value.get("Os") or "linux"),
        size=int(value.get("Size") or 0),
        created=str(value.get("Created") or ""),
        config=value.get("Config") or {},
    )


def image_names(value: Mapping[str, Any]) -> tuple[str, ...]:
    """An image's names with tags."""
    return tuple(name for name in value.get("RepoTags") or () if name != "<none>:<none>")


def read_container(value: Mapping[str, Any]) -> ContainerState:
    """A container, from GET /containers/NAME/json."""
    state, config = value["State"], value.get("Config") or {}
    settings = value.get("NetworkSettings") or {}
    # Podman before 4.4 says Healthcheck, and "" where there is none.
    health = state.get("Health") or state.get("Healthcheck") or {}
    log = health.get("Log") or [{}]
    status = {"stopped": "exited", "configured": "created", "stopping": "running"}.get(
        state["Status"], state["Status"]
    )
    return ContainerState(
        id=str(value["Id"]),
        name=str(value.get("Name") or "").lstrip("/"),
        image=str(config.get("Image") or ""),
        image_id=str(value.get("Image") or ""),
        status=status,
        command=_command(value),
        exit_code=int(state["ExitCode"]) if status in ("exited", "dead") else None,
        health=health.get("Status") or "none",
        health_output=str(log[-1].get("Output") or "").strip(),
        health_patience=health_patience(config.get("Healthcheck") or {}),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        ports=_published(settings.get("Ports") or {}),
        labels=config.get("Labels") or {},
        environment=dict(item.partition("=")[::2] for item in config.get("Env") or ()),
        networks={
            name: str(network.get("IPAddress") or "")
            for name, network in (settings.get("Networks") or {}).items()
        },
        mounts=tuple(_mounted(mount) for mount in value.get("Mounts") or ()),
        user=str(config.get("User") or ""),
        terminal=bool(config.get("Tty")),
        created=str(value.get("Created") or ""),
        started=_time(state.get("StartedAt")),
        finished=_time(state.get("FinishedAt")),
        restarts=int(value.get("RestartCount") or 0),
    )


def read_usage(value: Mapping[str, Any]) -> Usage:
    """What a container has used, from GET /containers/NAME/stats."""
    memory = value.get("memory_stats") or {}
    details = memory.get("stats") or {}
    used = memory.get("usage")
    if used is not None:
        # As `docker stats`: the file cache can be taken back (cgroup v1 and v2 names).
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        used = used - cache if cache < used else used
    networks = (value.get("networks") or {}).values()
    blocks = (value.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()

    def moved(kind: str) -> int:
        return sum(int(b["value"]) for b in blocks if str(b.get("op")).lower() == kind)

    cpu = ((value.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    return Usage(
        at=time.monotonic(),
        cpu=None if cpu is None else cpu / 1e9,
        memory=used,
        memory_limit=_limit(memory.get("limit")),
        network_received=sum(int(n.get("rx_bytes") or 0) for n in networks),
        network_sent=sum(int(n.get("tx_bytes") or 0) for n in networks),
        block_read=moved("read"),
        block_written=moved("write"),
        processes=(value.get("pids_stats") or {}).get("current"),
    )


def _command(value: Mapping[str, Any]) -> tuple[str, ...]:
    command = (str(value.get("Path") or ""), *(value.get("Args") or ()))
    if command[0].endswith("podman-init") and "--" in command:
        command = command[command.index("--") + 1 :]
    return command if command[0] else ()


def _limit(limit: int | None) -> int | None:
    """A memory limit in bytes; one that no machine reaches is none (cgroup v1)."""
    return limit if limit and limit < 1 << 60 else None


def read_processes(value: Mapping[str, Any]) -> tuple[ProcessLine, ...]:
    """The processes of a container, from GET /containers/NAME/top, whatever its columns."""
    titles = [str(title).upper() for title in value.get("Titles") or ()]
    columns = {title: number for number, title in enumerate(titles)}

    def cell(row: Sequence[str], *names: str) -> str:
        found = (row[columns[name]] for name in names if name in columns)
        return str(next(found, "")).strip()

    return tuple(
        ProcessLine(
            pid=int(cell(row, "PID", "HPID") or 0),
            user=cell(row, "USER", "UID", "HUSER"),
            time=cell(row, "TIME"),
            command=cell(row, "COMMAND", "CMD", "ARGS"),
        )
        for row in value.get("Processes") or ()
    )


def read_path(header: str) -> PathInfo:
    """What is at a path, from the header X-Docker-Container-Path-Stat: JSON in base64."""
    value = json.loads(base64.b64decode(header))
    # Go's os.FileMode: the highest bit is for folders, 1 << 27 for links.
    mode = int(value.get("mode") or 0)
    kind: Literal["file", "folder", "link", "other"] = "file"
    if mode & _GO_FOLDER:
        kind = "folder"
    elif mode & _GO_LINK:
        kind = "link"
    elif mode & _GO_SPECIAL:
        kind = "other"
    return PathInfo(
        name=str(value.get("name") or ""),
        kind=kind,
        size=int(value.get("size") or 0),
        link=str(value.get("linkTarget") or "") if kind == "link" else "",
    )


def read_network(value: Mapping[str, Any]) -> Network:
    """A network, from GET /networks/NAME."""
    settings = (value.get("IPAM") or {}).get("Config") or ()
    return Network(
        id=str(value["Id"]),
        name=str(value["Name"]),
        driver=str(value.get("Driver") or ""),
        internal=bool(value.get("Internal")),
        subnets=tuple(str(entry["Subnet"]) for entry in settings if entry.get("Subnet")),
        labels=value.get("Labels") or {},
        containers=tuple(value.get("Containers") or ()),
    )


def read_volume(value: Mapping[str, Any]) -> NamedVolume:
    """A volume, from GET /volumes/NAME."""
    return NamedVolume(
        name=str(value["Name"]),
        driver=str(value.get("Driver") or ""),
        path=str(value.get("Mountpoint") or ""),
        labels=value.get("Labels") or {},
        created=str(value.get("CreatedAt") or ""),
    )


def _mounted(mount: Mapping[str, Any]) -> Volume:
    kind = str(mount.get("Type") or "bind")
    return Volume(
        kind="volume" if kind == "volume" else "bind",
        source=str(mount.get("Name" if kind == "volume" else "Source") or ""),
        target=str(mount.get("Destination") or ""),
        read_only=not mount.get("RW", True),
    )


def _time(text: object) -> str:
    """A time; the year 1 is Go's way of saying none."""
    return "" if text is None or str(text).startswith("0001-") else str(text)


def _published(ports: Mapping[str, Any]) -> tuple[Port, ...]:
    """Published ports; the twin for IPv6 of one for all IPv4 interfaces is left out."""
    found: dict[tuple[str, str], Port] = {}
    for key, bindings in ports.items():
        number, _, protocol = key.partition("/")
        for binding in bindings or ():
            address = str(binding.get("HostIp") or "0.0.0.0")  # noqa: S104 - read, not bound
            port = Port(
                container=int(number),
                protocol=protocol,
                host_ip="0.0.0.0" if address == "::" else address,  # noqa: S104
                host=int(binding["HostPort"]),
            )
            found.setdefault((key, f"{port.host_ip} {port.host}"), port)
    return tuple(sorted(found.values(), key=lambda p: (p.container, p.protocol, p.host or 0)))
