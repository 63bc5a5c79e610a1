"""What a process may use and uses: the container's CPU quota, threads, memory.

Rules: a container's quota counts, not the machine's processors; frameworks that don't see it start
a thread for each of those and fight over the few they get.
"""

from __future__ import annotations

import gc
import math
import os
import resource
from pathlib import Path

from dockyard_serve.metrics import Metrics

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = _CGROUP) -> float:
    """Processors this process may use: its affinity, or less by a cgroup's quota."""
    affinity = float(len(os.sched_getaffinity(0)))
    return min(affinity, _quota(cgroup) or affinity)


def _quota(cgroup: Path) -> float | None:
    """The quota of cgroup v2 (`cpu.max`) or v1, in processors."""
    try:
        quota, _, period = (cgroup / "cpu.max").read_text().partition(" ")
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
    except OSError:
        return None
    return float(quota) / float(period) if float(quota) > 0 else None


def threads_per_worker(workers: int, cpus: float) -> int:
    """Threads for one call of a model, so that the workers together use what there is."""
    return max(1, math.floor(cpus / workers))


def limit_threads(threads: int) -> None:
    """Tell the libraries that read the environment when they are imported."""
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, str(threads))


def settle_memory() -> None:
    """Keep what start-up made out of every later garbage collection, which then takes no time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def observe_process(metrics: Metrics) -> None:
    """Set this worker's CPU time and memory."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    metrics.value("process_cpu_seconds_total").set(usage.ru_utime + usage.ru_stime)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return
    metrics.value("process_resident_memory_bytes").set(pages * resource.getpagesize())
