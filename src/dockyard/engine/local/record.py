"""What the local engine keeps of a container, so that it outlives the command that made it.

Files in containers/<id>/:

    record.json   this record, written when the container is made
    state.json    written by the container's monitor: status, pid, exit code, times
    health.json   the health check's last result, written by the monitor
    log, log.1…   what the container wrote (`logs`)
    lock          held by the monitor while the container runs; the exit code is in it afterwards
    stdin         a pipe, where the container takes input
    upper, work   overlayfs: what the container wrote to its root
    rootfs        where its root is mounted, in its own namespace only

Rules: values are plain, as JSON has them. A container whose monitor is gone without a last word
was killed with it.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dockyard.engine.local.store import LocalStore, read_json, write_json
from dockyard.engine.spec import Port, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KILLED = 137
"""The exit code of what SIGKILL ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A path of the host in the container; copy_up: an empty volume takes the image's files."""

    source: str
    target: str
    read_only: bool = False
    copy_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A container as it was made; see ContainerSpec for the meanings.

    root_owner: whether real user ids exist in it (made by root), or one only (uid, gid). moved:
    from the app's own port to the one it was given.
    """

    id: str
    name: str
    image: str
    image_id: str
    layers: tuple[str, ...]
    created: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    workdir: str
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    root_owner: bool
    hostname: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    mounts: tuple[Volume, ...] = ()
    binds: tuple[Bound, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    shm_size: int = 64 << 20
    read_only: bool = False
    capabilities: tuple[int, ...] = ()
    no_new_privileges: bool = True
    ulimits: tuple[tuple[str, int, int], ...] = ()
    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None
    init: bool = True
    interactive: bool = False
    terminal: bool = False
    stop_signal: str = "SIGTERM"
    remove: bool = False
    restart: str = "no"
    restart_retries: int | None = None
    log_size: int = 0
    log_files: int = 1
    health: Mapping[str, Any] | None = None

    def save(self, store: LocalStore) -> None:
        """Write the record to its folder, which exists."""
        write_json(self.folder(store) / "record.json", asdict(self))

    def folder(self, store: LocalStore) -> Path:
        """The container's folder."""
        return store.root / "containers" / self.id

    @staticmethod
    def load(folder: Path) -> Record | None:
        """The record in a container's folder, or None."""
        value = read_json(folder / "record.json")
        return None if value is None else _from_json(value)

    @staticmethod
    def all(store: LocalStore) -> list[Record]:
        """Every container's, newest first."""
        found = [Record.load(folder) for folder in (store.root / "containers").iterdir()]
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: record.created, reverse=True)

    @staticmethod
    def find(store: LocalStore, container: str) -> Record | None:
        """The one with this name or id, or the first twelve digits of it and more."""
        for record in Record.all(store):
            named = container in (record.id, record.name)
            if named or (len(container) >= 12 and record.id.startswith(container)):
                return record
        return None


def _from_json(value: dict[str, Any]) -> Record:
    return Record(
        **value
        | {
            "layers": tuple(value["layers"]),
            "argv": tuple(value["argv"]),
            "groups": tuple(value["groups"]),
            "ports": tuple(Port(**each) for each in value["ports"]),
            "mounts": tuple(
                Volume(**each | {"options": tuple(each["options"])}) for each in value["mounts"]
            ),
            "binds": tuple(Bound(**each) for each in value["binds"]),
            "capabilities": tuple(value["capabilities"]),
            "ulimits": tuple((name, soft, hard) for name, soft, hard in value["ulimits"]),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What state.json says: pid is the container's first process, on this machine."""

    status: str = "created"
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    started: str = ""
    finished: str = ""
    restarts: int = 0
    stopping: bool = False

    def save(self, folder: Path) -> None:
        """Write it to the container's folder."""
        write_json(folder / "state.json", asdict(self))

    @staticmethod
    def load(folder: Path) -> Life:
        """What the monitor wrote last; one that lost its monitor was killed."""
        life = Life.written(folder)
        if life.status in ("running", "restarting") and not is_held(folder):
            # It may have ended between the two looks.
            life = Life.written(folder)
            if life.status in ("running", "restarting"):
                return replace(life, status="exited", exit_code=KILLED, pid=0)
        return life

    @staticmethod
    def written(folder: Path) -> Life:
        """The file's words."""
        value = read_json(folder / "state.json")
        return Life(**value) if isinstance(value, dict) else Life()


def is_held(folder: Path) -> bool:
    """Whether the container's monitor lives."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def wait_unheld(folder: Path) -> int | None:
    """Wait until the monitor is gone; the exit code that it left, None where it left none."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        with suppress(ValueError):
            return int(os.pread(handle, 16, 0))
    finally:
        os.close(handle)
    return None


def to_json_line(value: Mapping[str, Any]) -> str:
    """A message between our processes."""
    return json.dumps(value, separators=(",", ":"))
