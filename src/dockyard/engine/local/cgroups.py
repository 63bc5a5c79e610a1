"""Limits of memory, CPU and processes, by control groups.

Rules: they need root, and groups that are there: version 2, or version 1 with one folder for each
controller. Where they can't be had, `why_no_limits` says so in one sentence. The kernel counts what
was killed for want of memory; that count is read before a group is removed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockyard.engine.local.record import Record

_ROOT = Path("/sys/fs/cgroup")
_OURS = "dockyard"
_PERIOD = 100_000  # Microseconds, the kernel's own.


def why_no_limits() -> str:
    """Why memory and CPU can't be limited here, or ""."""
    if os.geteuid() != 0:
        return "only root may limit memory and CPU: an ordinary user has no control groups"
    if not (_is_unified() or (_ROOT / "memory").is_dir()):
        return "this machine has no control groups, so memory and CPU can't be limited"
    if not os.access(_ROOT if _is_unified() else _ROOT / "memory", os.W_OK):
        return "the control groups of this machine can't be changed from here"
    return ""


def make(record: Record) -> list[Path]:
    """Make the container's groups with its limits; [] where it has none or there are none."""
    wanted = record.memory or record.cpus or record.processes
    if not wanted or why_no_limits():
        return []
    groups = _groups(record)
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    if _is_unified():
        for parent in (_ROOT, _ROOT / _OURS):
            for controller in ("memory", "cpu", "pids"):
                _write(parent / "cgroup.subtree_control", f"+{controller}")
        group = groups[0]
        if record.memory:
            _write(group / "memory.max", str(record.memory))
            _write(group / "memory.swap.max", "0")
        if record.cpus:
            _write(group / "cpu.max", f"{round(record.cpus * _PERIOD)} {_PERIOD}")
        if record.processes:
            _write(group / "pids.max", str(record.processes))
        return groups
    memory, cpu, pids = groups
    if record.memory:
        _write(memory / "memory.limit_in_bytes", str(record.memory))
        _write(memory / "memory.memsw.limit_in_bytes", str(record.memory))
    if record.cpus:
        _write(cpu / "cpu.cfs_period_us", str(_PERIOD))
        _write(cpu / "cpu.cfs_quota_us", str(round(record.cpus * _PERIOD)))
    if record.processes:
        _write(pids / "pids.max", str(record.processes))
    return groups


def enter(groups: list[Path], pid: int) -> None:
    """Put a process, and all that it starts, under the limits."""
    for group in groups:
        with suppress(OSError):
            (group / "cgroup.procs").write_text(str(pid))


def was_out_of_memory(record: Record) -> bool:
    """Whether the kernel killed something of the container for want of memory."""
    for group in _groups(record):
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                found = re.search(r"^oom_kill (\d+)", (group / name).read_text(), re.MULTILINE)
                if found and int(found[1]):
                    return True
    return False


def remove(record: Record) -> None:
    """Remove the container's groups, which are empty."""
    for group in _groups(record):
        with suppress(OSError):
            group.rmdir()


def _groups(record: Record) -> list[Path]:
    if _is_unified():
        return [_ROOT / _OURS / record.id]
    return [_ROOT / controller / _OURS / record.id for controller in ("memory", "cpu", "pids")]


def _is_unified() -> bool:
    return (_ROOT / "cgroup.controllers").exists()


def _write(path: Path, value: str) -> None:
    with suppress(OSError):  # A controller that the kernel was built without.
        path.write_text(value)
