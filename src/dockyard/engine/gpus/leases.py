"""Who holds which GPU: one file for all users of the machine, under a lock.

Rules: a lease lives as long as its process: the command that starts a container, then the
container's own first process. So a holder that is killed frees what it had, whoever killed it and
whatever engine it ran on, and nobody has to clean up. The file is changed in place (others may
not replace files of a sticky folder); one that a crash left damaged counts as empty, because
running containers are found by their labels as well.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.engine.gpus.choose import Holder
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = (Path("/run/lock"), Path("/var/lock"), Path("/tmp"))  # noqa: S108 - shared on purpose
_NAME = "dockyard-gpus.json"
_LARGEST = 1 << 20  # Bytes; a file that is larger isn't ours.


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A holder, and what tells its process from a later one with the same number.

    started: the process's start in clock ticks since boot (proc(5), stat, field 22).
    """

    holder: Holder
    started: int

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return process_start(self.holder.pid) == self.started

    @staticmethod
    def of(holder: Holder, pid: int) -> Lease:
        """A lease of the running process `pid`."""
        return Lease(holder=replace(holder, pid=pid), started=process_start(pid) or 0)


def process_start(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command, in parentheses, may hold anything; the fields after it are plain.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def lease_path() -> Path:
    """The file that all users of this machine share, or the one DOCKYARD_GPU_LEASES names."""
    if named := os.environ.get("DOCKYARD_GPU_LEASES"):
        return Path(named).expanduser().absolute()
    for folder in _SHARED:
        try:
            mode = folder.stat().st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) and mode & stat.S_ISVTX and mode & stat.S_IWOTH:
            return folder / _NAME
    return _SHARED[-1] / _NAME


class LeaseTable:
    """The leases while the lock is held."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self) -> list[Lease]:
        """The leases whose process lives."""
        try:
            data = os.pread(self._handle, _LARGEST, 0)
            leases = [_from_json(value) for value in json.loads(data)] if data else []
        except (ValueError, TypeError, KeyError, AttributeError):
            return []
        return [lease for lease in leases if lease.alive]

    def write(self, leases: list[Lease]) -> None:
        """Replace all leases."""
        data = json.dumps([_to_json(lease) for lease in leases], indent=1).encode()
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, data, 0)


@contextmanager
def open_leases() -> Iterator[LeaseTable]:
    """Yield the table under its lock, for a moment only; raises EngineError when it can't be."""
    path = lease_path()
    try:
        handle = _open(path)
    except OSError as error:
        raise EngineError(
            f"the file of GPU leases can't be opened: {error.strerror}",
            where=str(path),
            hint="It must be a plain file that you may write; DOCKYARD_GPU_LEASES names another.",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield LeaseTable(handle)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    """Open the file for everybody; never through a link that someone left in a shared folder."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            # Without O_CREAT first: Linux refuses it on others' files in a sticky folder
            # (fs.protected_regular).
            return os.open(path, flags)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        os.fchmod(handle, 0o666)  # The umask doesn't know that others share it.
        return handle


def _to_json(lease: Lease) -> dict[str, Any]:
    holder = lease.holder
    return {
        "name": holder.name,
        "devices": list(holder.devices),
        "memory": holder.memory,
        "container": holder.container,
        "pid": holder.pid,
        "started": lease.started,
    }


def _from_json(value: dict[str, Any]) -> Lease:
    memory = value["memory"]
    return Lease(
        holder=Holder(
            name=str(value["name"]),
            devices=tuple(str(uuid) for uuid in value["devices"]),
            memory=None if memory is None else int(memory),
            container=str(value["container"]),
            pid=int(value["pid"]),
        ),
        started=int(value["started"]),
    )
