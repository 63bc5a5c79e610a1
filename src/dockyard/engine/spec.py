"""What to run and how: a container's specification, and the words people write for its parts.

Rules: what `docker run` accepts means here what it means there. A value that can't be meant is
refused with UsageError, which quotes it and says how it is written. Parsing touches nothing but
the environment files that it is given; a relative path is taken from the current folder.
"""

from __future__ import annotations

import csv
import ipaddress
import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.oci.config import Healthcheck
    from dockyard.oci.platform import Platform

MANAGED = "dockyard.managed"
"""The label on all that Dockyard makes in an engine: containers, networks, volumes."""

SHM_SIZE = 1 << 30
"""Shared memory in bytes: an engine's own 64 MB makes DataLoader workers die of bus errors."""

SECRETS = "/run/secrets"
"""The folder of secrets in a container, as Swarm and Compose have it."""

GRACE = 10.0
"""Seconds between the signal to stop and the kill."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?\Z", re.IGNORECASE)
_CDI_NAME = re.compile(r"[a-z][\w.-]*\.[\w.-]+/[a-z][\w.-]*=[\w.:-]+\Z", re.IGNORECASE)
_PROTOCOLS = ("tcp", "udp", "sctp")
_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_IGNORED_MODES = frozenset({"rw", "consistent", "cached", "delegated"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A container's port, published on the engine's machine.

    host_ip "": every interface; host None: a free one, chosen by the engine.
    """

    container: int
    protocol: str = "tcp"
    host_ip: str = ""
    host: int | None = None

    @property
    def key(self) -> str:
        """The Engine API's name of the container's port: "80/tcp"."""
        return f"{self.container}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder, file or named volume at an absolute path in the container.

    kind "bind": source is an absolute path on the engine's machine; "volume": source is a name,
    or "" for a new anonymous volume. options: SELinux relabelling ("z", "Z"), propagation, nocopy.
    """

    kind: Literal["bind", "volume"]
    source: str
    target: str
    read_only: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs to hand in: a count (None: all) or ids (indexes, UUIDs, MIG instances, CDI names).

    memory: bytes that each must have free; a share of a GPU, which nothing enforces. wait: until
    enough are free, where they are counted.
    """

    count: int | None = None
    ids: tuple[str, ...] = ()
    memory: int | None = None
    wait: bool = False

    def __str__(self) -> str:
        if self.ids:
            return f"device={','.join(self.ids)}"
        return "all" if self.count is None else str(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """When the engine starts a container again; retries: of "on-failure", None for no end."""

    policy: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """A limit on each process (setrlimit(2)), by its name there in lower case; -1: none."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRotation:
    """How much of what a container writes is kept: so many files of so many bytes."""

    size: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A file of this machine that the container reads at /run/secrets/NAME, and only there."""

    name: str
    file: Path

    @property
    def target(self) -> str:
        """Where it is in the container."""
        return f"{SECRETS}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that an engine needs to make one container.

    None means the image's own value (command, entrypoint, user, workdir, health) or no limit
    (memory in bytes, cpus in cores, processes). remove: the engine removes the container when it
    ends. grace: seconds between the signal to stop and the kill. tmpfs: path to mount options.
    aliases: further names on its network, which must be one of the user's own. health: its zeros
    are the image's. platform: what the image must be for. interactive: its program gets input
    through `converse`; terminal: and a terminal.
    """

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    name: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    gpus: Gpus | None = None
    user: str | None = None
    workdir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    aliases: tuple[str, ...] = ()
    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None
    shm_size: int = SHM_SIZE
    init: bool = True
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ("no-new-privileges",)
    ulimits: tuple[Ulimit, ...] = ()
    restart: Restart = Restart()
    log_rotation: LogRotation | None = None
    health: Healthcheck | None = None
    platform: Platform | None = None
    secrets: tuple[Secret, ...] = ()
    interactive: bool = False
    terminal: bool = False
    grace: float = GRACE
    remove: bool = False

    def __post_init__(self) -> None:
        if not self.image:
            raise UsageError("no image is named")
        if self.name is not None and not _NAME.match(self.name):
            raise UsageError(
                f"{self.name!r} can't be a container's name",
                hint="Use at least two letters, digits, '_', '.' or '-', the first of them a "
                "letter or digit.",
            )
        if self.workdir is not None and not self.workdir.startswith("/"):
            raise UsageError(f"the working folder {self.workdir!r} isn't an absolute path")
        _refuse_repeated("port", [f"{p.host_ip}:{p.host}" for p in self.ports if p.host])
        targets = [volume.target for volume in self.volumes]
        _refuse_repeated("path", [*targets, *self.tmpfs])
        _refuse_repeated("secret", [secret.name for secret in self.secrets])
        if self.remove and self.restart.policy != "no":
            raise UsageError(
                "a container that is removed when it ends can't be restarted then",
                hint="Give --restart or --rm.",
            )


def _refuse_repeated(what: str, values: Sequence[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise UsageError(f"the {what} {value.lstrip(':')} is asked for twice")
        seen.add(value)


def parse_port(text: str) -> Port:
    """Parse "80", "8080:80", "127.0.0.1:8080:80/tcp", "[::1]::80/udp"."""
    how = "Write [ADDRESS:][PORT:]CONTAINER_PORT[/tcp|udp|sctp], as in 127.0.0.1:8080:80."
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise UsageError(f"the port {text!r} names no protocol that can be published", hint=how)
    if "-" in rest:
        raise UsageError(
            f"the port {text!r} is a range", hint="Give -p once for each port of the range."
        )
    address, host = "", ""
    rest, colon, container = rest.rpartition(":")
    if colon:
        address, colon, host = rest.rpartition(":")
        if colon:
            address = _parse_address(address, text, how)
    return Port(
        container=_parse_port_number(container, text, how),
        protocol=protocol,
        host_ip=address,
        # Port 0 asks for a free one, as it does everywhere else.
        host=(_parse_port_number(host, text, how, lowest=0) or None) if host else None,
    )


def _parse_address(address: str, text: str, how: str) -> str:
    bracketed = address.startswith("[") and address.endswith("]")
    try:
        return str(ipaddress.ip_address(address[1:-1] if bracketed else address))
    except ValueError:
        raise UsageError(
            f"the port {text!r} names no IP address: {address!r}",
            hint=how + " An IPv6 address stands in brackets.",
        ) from None


def _parse_port_number(digits: str, text: str, how: str, lowest: int = 1) -> int:
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else -1
    if not lowest <= number <= 65535:
        raise UsageError(f"the port {text!r} isn't a number from 1 to 65535", hint=how)
    return number


def parse_volume(text: str, *, folder: Path | None = None) -> Volume:
    """Parse "./x:/app/x:ro", "name:/data", "/data"; relative sources start at `folder`."""
    how = "Write [FOLDER or NAME:]/PATH/IN/CONTAINER[:ro]."
    source, target, options = "", "", ""
    match text.split(":"):
        case [target]:
            pass
        case [source, target]:
            pass
        case [source, target, options]:
            pass
        case _:
            raise UsageError(f"the volume {text!r} has too many parts", hint=how)
    if not target.startswith("/") or ".." in target.split("/"):
        raise UsageError(f"the volume {text!r} has no absolute path in the container", hint=how)
    target = "/" + "/".join(part for part in target.split("/") if part not in ("", "."))
    if target == "/":
        raise UsageError(f"the volume {text!r} would hide the container's whole root", hint=how)
    read_only, kept = _parse_volume_options(options, text)
    if source.startswith(("/", ".", "~")):
        path = (folder or Path.cwd()) / Path(source).expanduser()
        return Volume(
            kind="bind",
            source=os.path.normpath(path),
            target=target,
            read_only=read_only,
            options=kept,
        )
    if source and not _NAME.match(source):
        hint = f"For a folder write ./{source}." if "/" in source else how
        raise UsageError(f"{source!r} can't be a volume's name", hint=hint)
    if text.count(":") and not source:
        raise UsageError(f"the volume {text!r} has an empty part", hint=how)
    return Volume(kind="volume", source=source, target=target, read_only=read_only, options=kept)


def _parse_volume_options(options: str, text: str) -> tuple[bool, tuple[str, ...]]:
    kept: list[str] = []
    read_only = False
    for option in options.split(",") if options else ():
        if option == "ro":
            read_only = True
        elif option in _PROPAGATION or option in ("z", "Z", "nocopy"):
            kept.append(option)
        elif option not in _IGNORED_MODES:
            raise UsageError(
                f"the volume {text!r} has an unknown option {option!r}",
                hint="Options are ro, rw, z, Z, nocopy and the propagation modes.",
            )
    return read_only, tuple(kept)


def parse_gpus(text: str) -> Gpus:
    """Parse "all", "2", "device=0,1", "GPU-…", "MIG-…", "amd.com/gpu=0".

    Docker's inner quotes are allowed, and UUIDs and CDI names stand without its device= too.
    """
    how = "Write all, a number, device=0,1, a UUID (GPU-…, MIG-…) or a CDI name (amd.com/gpu=0)."
    # Docker's own form quotes the list of devices, inside the shell's quotes.
    quoted = [part for row in csv.reader([text]) for part in row]
    fields = [part.strip() for group in quoted for part in group.split(",")]
    if not fields or not fields[0]:
        raise UsageError("--gpus is empty", hint=how)
    if fields[0].startswith(("GPU-", "MIG-")) or "/" in fields[0]:
        fields[0] = f"device={fields[0]}"
    key, equals, value = fields[0].partition("=")
    if key in ("device", "id") and equals:
        ids = (value, *fields[1:])
        odd = [name for name in ids if set("=/") & set(name) and not is_cdi_name(name)]
        if odd or not all(ids):
            raise UsageError(f"the GPUs {text!r} can't be understood", hint=how)
        if len(set(ids)) != len(ids):
            raise UsageError(f"the GPUs {text!r} name one device twice", hint=how)
        return Gpus(ids=ids)
    count = value if key == "count" and equals else fields[0]
    if len(fields) == 1:
        if count == "all":
            return Gpus()
        if count.isascii() and count.isdigit() and int(count) > 0:
            return Gpus(count=int(count))
    raise UsageError(f"the GPUs {text!r} can't be understood", hint=how)


def parse_gpu_options(gpus: str | None, memory: str | None, *, wait: bool = False) -> Gpus | None:
    """Join --gpus, --gpu-memory and --wait; memory alone asks for one GPU."""
    if gpus is None and memory is None:
        if wait:
            raise UsageError("--wait waits for GPUs", hint="Give --gpus or --gpu-memory too.")
        return None
    asked = Gpus(count=1) if gpus is None else parse_gpus(gpus)
    if memory is not None and (asked.ids or asked.count is None):
        raise UsageError(
            f"--gpu-memory chooses among GPUs, and --gpus {gpus} leaves nothing to choose",
            hint="Give --gpus a number.",
        )
    size = None if memory is None else parse_size(memory)
    return replace(asked, memory=size, wait=wait)


def is_cdi_name(text: str) -> bool:
    """Whether the text is a fully qualified CDI device: vendor.com/class=name (CDI 0.5)."""
    return _CDI_NAME.match(text) is not None


def parse_size(text: str) -> int:
    """Parse "512m", "2g", "1.5GiB", "1073741824" into bytes; units are powers of 1024."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size", hint="Write a number with b, k, m or g: 512m, 2g.")
    power = "bkmgtp".index(match[2].lower() or "b")
    return int(float(match[1]) * 1024**power)


def parse_cpus(text: str) -> float:
    """Parse "2" or "0.5" cores."""
    try:
        cpus = float(text)
    except ValueError:
        cpus = math.nan
    if not 0.01 <= cpus < 1e6:
        raise UsageError(f"{text!r} is no number of CPUs", hint="Write a number such as 2 or 0.5.")
    return cpus


def parse_environment(
    variables: Sequence[str],
    files: Sequence[Path] = (),
    *,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Merge environment files, then "NAME=value" or "NAME" (taken from environ if set there)."""
    environ = os.environ if environ is None else environ
    merged: dict[str, str] = {}
    for path in files:
        merged.update(read_environment_file(path, environ=environ))
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not name:
            raise UsageError(f"the variable {variable!r} has no name", hint="Write NAME=value.")
        if equals:
            merged[name] = value
        elif name in environ:
            merged[name] = environ[name]
    return merged


def read_environment_file(
    path: Path, *, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Read an environment file as Docker does: no quotes, no escapes, values to the line's end.

    Lines are NAME=value, or NAME for the caller's own value; blank lines and those that start
    with # are skipped.
    """
    environ = os.environ if environ is None else environ
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"the environment file can't be read: {error.strerror}", where=str(path)
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("the environment file isn't UTF-8 text", where=str(path)) from error
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name or any(character.isspace() for character in name):
            raise UsageError(
                f"{line[:60]!r} doesn't set a variable" if not name else f"{name!r} has a space",
                where=f"{path}:{number}",
                hint="Write NAME=value, without spaces around the equals sign.",
            )
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found
