"""What is sent to make a container: the body of POST /containers/create (Engine API 1.41).

Rules: pure functions from a specification to JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockyard.engine.gpus.translate import DeviceFields, device_fields
from dockyard.engine.spec import MANAGED, SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockyard.engine.gpus.translate import Handover
    from dockyard.engine.spec import ContainerSpec, Port, Volume


def container_config(
    spec: ContainerSpec, *, log_driver: str = "json-file", handover: Handover = "requests"
) -> dict[str, Any]:
    """The body for a spec.

    log_driver: of the engine, which keeps what the container writes; handover: how it takes GPUs.
    """
    # SELinux labels exist only in the older form of mounts.
    bound = [v for v in spec.volumes if v.kind == "bind" and {"z", "Z"} & set(v.options)]
    host: dict[str, Any] = {
        "Init": spec.init,
        "ShmSize": spec.shm_size,
        "AutoRemove": spec.remove,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": list(spec.security_options),
        "PortBindings": _port_bindings(spec.ports),
        "Mounts": [_mount(volume) for volume in spec.volumes if volume not in bound],
        "Binds": [":".join((v.source, v.target, _bind_options(v))) for v in bound],
        "Tmpfs": dict(spec.tmpfs),
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in spec.ulimits],
        "RestartPolicy": {
            "Name": "" if spec.restart.policy == "no" else spec.restart.policy,
            "MaximumRetryCount": spec.restart.retries or 0,
        },
    }
    if spec.secrets:
        # Filled through the API before the start, so that it works with an engine far away.
        host["Mounts"].append({"Type": "volume", "Target": SECRETS})
    if spec.network is not None:
        host["NetworkMode"] = spec.network
    if spec.memory is not None:
        host["Memory"] = spec.memory
    if spec.cpus is not None:
        host["NanoCpus"] = round(spec.cpus * 1e9)
    if spec.processes is not None:
        host["PidsLimit"] = spec.processes
    if spec.log_rotation is not None:
        kept = {"max-size": str(spec.log_rotation.size), "max-file": str(spec.log_rotation.files)}
        host["LogConfig"] = {"Type": log_driver, "Config": kept}
    devices = DeviceFields() if spec.gpus is None else device_fields(spec.gpus, handover)
    host.update(devices.host)
    environment = {**spec.environment, **devices.environment}
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {MANAGED: "true", **spec.labels},
        "ExposedPorts": {port.key: {} for port in spec.ports},
        "StopTimeout": max(0, round(spec.grace)),
        "HostConfig": host,
        "Tty": spec.terminal,
        "OpenStdin": spec.interactive,
        "StdinOnce": spec.interactive,
        "AttachStdin": spec.interactive,
    }
    if spec.health is not None:
        config["Healthcheck"] = spec.health.to_json()
    if spec.network is not None and spec.aliases:
        endpoint = {"Aliases": list(spec.aliases)}
        config["NetworkingConfig"] = {"EndpointsConfig": {spec.network: endpoint}}
    if spec.command is not None:
        config["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        # An empty list would mean the image's own; [""] is how the API clears it.
        config["Entrypoint"] = list(spec.entrypoint) or [""]
    if spec.user is not None:
        config["User"] = spec.user
    if spec.workdir is not None:
        config["WorkingDir"] = spec.workdir
    return config


def _port_bindings(ports: Iterable[Port]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host or "")}
        bindings.setdefault(port.key, []).append(binding)
    return bindings


def _mount(volume: Volume) -> dict[str, Any]:
    mount: dict[str, Any] = {
        "Type": volume.kind,
        "Target": volume.target,
        "ReadOnly": volume.read_only,
    }
    if volume.source:
        mount["Source"] = volume.source
    propagation = [option for option in volume.options if option not in ("nocopy", "z", "Z")]
    if propagation:
        mount["BindOptions"] = {"Propagation": propagation[-1]}
    if "nocopy" in volume.options:
        mount["VolumeOptions"] = {"NoCopy": True}
    return mount


def _bind_options(volume: Volume) -> str:
    return ",".join(("ro" if volume.read_only else "rw", *volume.options))
