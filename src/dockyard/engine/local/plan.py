"""From a specification to the record of a container, or the sentence why it can't be.

Rules: nothing is written here; what is read are the image's own files. What this engine can't do
is UnsupportedError, one sentence each: networks, mapped ports of apps that don't heed one, limits
without control groups, GPUs, further users without root.
"""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.engine import refusals
from dockyard.engine.local import cgroups
from dockyard.engine.local.lookup import find_user
from dockyard.engine.local.ports import Moved, move_check, move_port
from dockyard.engine.local.record import Bound, Record
from dockyard.engine.spec import MANAGED
from dockyard.engine.state import UnsupportedError
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.engine.local.store import LocalStore
    from dockyard.engine.spec import ContainerSpec, Port
    from dockyard.engine.state import LocalImage

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WHERE = "the local engine"

# Docker's defaults (moby/profiles), by their numbers in <linux/capability.h>.
_CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
_FURTHER = {
    "DAC_READ_SEARCH": 2,
    "LINUX_IMMUTABLE": 9,
    "NET_BROADCAST": 11,
    "NET_ADMIN": 12,
    "IPC_LOCK": 14,
    "IPC_OWNER": 15,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "PERFMON": 38,
    "BPF": 39,
}


def plan_container(
    spec: ContainerSpec,
    image: LocalImage,
    store: LocalStore,
    *,
    number: str,
    volumes: Sequence[Bound],
) -> Record:
    """The record of a container; volumes: where the specification's volumes are on this machine."""
    _refuse_what_cant_be(spec)
    refusals.check_platform(spec, image.architecture)
    config = image.config
    user_text = spec.user if spec.user is not None else str(config.get("User") or "")
    user = find_user([store.layer(layer) for layer in image.layers], user_text)
    listed = dict(item.partition("=")[::2] for item in config.get("Env") or ())
    home = {"HOME": user.home or "/"} if "HOME" not in listed else {}
    environment = {"PATH": PATH, "HOSTNAME": number[:12], **home, **listed, **spec.environment}
    argv = _command(spec, config)
    if not argv:
        raise EngineError(
            "the image has no start command",
            where=spec.image,
            hint="Give one after --: dockyard run IMAGE -- COMMAND",
        )
    health = _health(spec, config)
    ports, moved = _ports(spec, Moved(argv=argv, environment=environment))
    for old, port in zip(spec.ports, ports, strict=True):
        if health and port.host and port.host != old.container:
            health = {**health, "Test": move_check(health["Test"], old.container, port.host)}
    return Record(
        id=number,
        name=spec.name or f"local-{number[:8]}",
        image=spec.image,
        image_id=image.id,
        layers=image.layers,
        created=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        argv=moved.argv,
        environment=moved.environment,
        workdir=spec.workdir or str(config.get("WorkingDir") or "/"),
        user=user_text,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        root_owner=os.geteuid() == 0,
        hostname=number[:12],
        labels={**image.labels, MANAGED: "true", **spec.labels},
        ports=ports,
        mounts=spec.volumes,
        binds=(*_host_files(), *volumes, *_secrets(spec)),
        tmpfs=dict(spec.tmpfs),
        shm_size=spec.shm_size,
        read_only=spec.read_only,
        capabilities=_kept_capabilities(spec),
        no_new_privileges="no-new-privileges" in ",".join(spec.security_options),
        ulimits=tuple((limit.name, limit.soft, limit.hard) for limit in spec.ulimits),
        memory=spec.memory,
        cpus=spec.cpus,
        processes=spec.processes,
        init=spec.init,
        interactive=spec.interactive,
        terminal=spec.terminal,
        stop_signal=str(config.get("StopSignal") or "SIGTERM"),
        remove=spec.remove,
        restart=spec.restart.policy,
        restart_retries=spec.restart.retries,
        log_size=0 if spec.log_rotation is None else spec.log_rotation.size,
        log_files=1 if spec.log_rotation is None else spec.log_rotation.files,
        health=health,
    )


def _refuse_what_cant_be(spec: ContainerSpec) -> None:
    if spec.gpus is not None:
        raise UnsupportedError(
            "the local engine can't hand GPUs to containers",
            where=_WHERE,
            hint="Use Docker with the NVIDIA Container Toolkit, or run without --gpus.",
        )
    if spec.network not in (None, "host", "default"):
        raise UnsupportedError(
            "the local engine has no networks: its containers are on this machine's own",
            where=_WHERE,
            hint="Leave --network out, or use Docker or Podman.",
        )
    if (spec.memory or spec.cpus) and (reason := cgroups.why_no_limits()):
        raise UnsupportedError(
            reason,
            where=_WHERE,
            hint="Leave --memory and --cpus out, or use Docker or Podman.",
        )


def _ports(spec: ContainerSpec, start: Moved) -> tuple[tuple[Port, ...], Moved]:
    """The ports that the app will listen on, and how it is told so."""
    ports = []
    for port in spec.ports:
        host = port.host
        if host is None:
            host = port.container
            if is_taken(replace(port, host=host)):
                host = _free_port(port)
        if host != port.container:
            moved = move_port(start.argv, start.environment, port.container, host)
            if moved is None:
                raise UnsupportedError(
                    f"the local engine can't map port {port.container} to {host}: the app is on "
                    "this machine's network, and nothing tells it to listen elsewhere",
                    where=_WHERE,
                    hint=f"Publish {port.container}:{port.container}, let the app listen on the "
                    "variable PORT, or use Docker or Podman.",
                )
            start = moved
        ports.append(replace(port, host=host))
    return tuple(ports), start


def is_taken(port: Port) -> bool:
    """Whether somebody listens on the published port already."""
    family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # Connections of yesterday's server don't hold a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host_ip, port.host or 0))
        except OSError:
            return True
    return False


def _free_port(port: Port) -> int:
    with socket.socket(socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET) as probe:
        probe.bind((port.host_ip, 0))
        return int(probe.getsockname()[1])


def _command(spec: ContainerSpec, config: Any) -> tuple[str, ...]:
    """What a container runs (image-spec config.md); another entrypoint drops the image's Cmd."""
    own = () if spec.entrypoint is not None else tuple(config.get("Cmd") or ())
    entrypoint = spec.entrypoint
    if entrypoint is None:
        entrypoint = tuple(config.get("Entrypoint") or ())
    return (*entrypoint, *(own if spec.command is None else spec.command))


def _health(spec: ContainerSpec, config: Any) -> dict[str, Any] | None:
    own = dict(config.get("Healthcheck") or {})
    if spec.health is not None:
        # Its zeros are the image's.
        asked = {key: value for key, value in spec.health.to_json().items() if value}
        own = {**own, **asked}
    test = own.get("Test")
    return own if test and test != ["NONE"] else None


def _kept_capabilities(spec: ContainerSpec) -> tuple[int, ...]:
    known = {**_CAPABILITIES, **_FURTHER}
    dropped = {name.upper().removeprefix("CAP_") for name in spec.cap_drop}
    added = {name.upper().removeprefix("CAP_") for name in spec.cap_add}
    kept = set() if "ALL" in dropped else set(_CAPABILITIES) - dropped
    kept |= set(known) if "ALL" in added else added
    unknown = sorted(kept - set(known))
    if unknown:
        raise UnsupportedError(
            f"the local engine can't give the capability {unknown[0]}", where=_WHERE
        )
    return tuple(sorted(known[name] for name in kept))


def _secrets(spec: ContainerSpec) -> tuple[Bound, ...]:
    from dockyard.engine.secrets import read_secret

    for secret in spec.secrets:
        read_secret(secret)  # Its errors belong here, not to the start.
    return tuple(
        Bound(source=str(each.file.absolute()), target=each.target, read_only=True)
        for each in spec.secrets
    )


def _host_files() -> tuple[Bound, ...]:
    """What a container on the machine's network needs of it: names and name servers."""
    found = []
    for path in ("/etc/resolv.conf", "/etc/hosts"):
        source = Path(path).resolve()  # Often a link to a folder that isn't in the image.
        if source.is_file():
            found.append(Bound(source=str(source), target=path, read_only=True))
    return tuple(found)
