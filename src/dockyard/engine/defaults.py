"""What a container gets that nobody asked for: little power, and room for what frameworks need.

Rules: pure functions over a specification. What was asked for is never changed; each default says
why it doesn't break a framework. Measured with a torch app (inference, training, torch.compile,
DataLoader workers, gloo): all of this together breaks nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockyard.engine.spec import LogRotation, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.engine.spec import ContainerSpec
    from dockyard.engine.state import EngineInfo, LocalImage

USER = "10001:10001"
"""Who an image's root becomes: nobody's number on usual systems, as Dockyard's images have it."""

TMP = "exec,nosuid,size=512m"
"""Options of /tmp: torch.compile and triton load what they have compiled there, hence exec."""

WRITABLE = "io.dockyard.writable"
"""The label with the paths that an app writes, separated by commas."""

LOGS = LogRotation(size=10 << 20, files=3)
"""30 MB of what a container wrote are kept; by itself Docker keeps all until the disk is full."""

DOCKERS_SHM_SIZE = 64 << 20
"""Bytes of /dev/shm that Docker gives by itself; DataLoader workers die of it."""

_PROCESSES = 512  # Python's data loaders, BLAS and CUDA take some dozens of threads for each core.
_PROCESSES_PER_CPU = 256
_ROTATING = ("json-file", "local", "k8s-file")
_ROOT = ("", "0", "root")

# Libraries ask the kernel for its processors, not for the container's share of them.
_THREADS = (
    "OMP_NUM_THREADS",  # torch, scikit-learn, XGBoost, LightGBM
    "OPENBLAS_NUM_THREADS",  # numpy, scipy
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "RAYON_NUM_THREADS",  # tokenizers, polars and others in Rust
    "POLARS_MAX_THREADS",
    "PYTHON_CPU_COUNT",  # os.cpu_count() since Python 3.13
)


def harden(spec: ContainerSpec, image: LocalImage, info: EngineInfo) -> ContainerSpec:
    """Give a specification the defaults that suit an image on an engine."""
    taken = {*spec.tmpfs, *(volume.target for volume in spec.volumes)}
    user, environment = _identity(spec, image)
    named = _names_set(image)
    threads = {k: v for k, v in thread_limits(spec.cpus).items() if k not in named}
    tmpfs, places = dict(spec.tmpfs), []
    if spec.read_only:
        if "/tmp" not in taken:  # noqa: S108 - a path in the container
            tmpfs["/tmp"] = TMP  # noqa: S108
        # Anonymous volumes start with what the image has there, with its modes.
        places = [
            Volume(kind="volume", source="", target=path)
            for path in writable_places(image)
            if path not in taken
        ]
    everything = "ALL" in {name.upper() for name in spec.cap_add}
    return replace(
        spec,
        user=user,
        environment={**threads, **environment, **spec.environment},
        tmpfs=tmpfs,
        volumes=(*spec.volumes, *places),
        cap_drop=spec.cap_drop if everything else tuple(dict.fromkeys((*spec.cap_drop, "ALL"))),
        processes=spec.processes
        if spec.processes is not None
        else max(_PROCESSES, _PROCESSES_PER_CPU * info.cpus),
        log_rotation=LOGS if info.log_driver in _ROTATING else None,
    )


def writable_places(image: LocalImage) -> tuple[str, ...]:
    """Where an image's app writes: what Dockyard found when it built it, nested ones left out."""
    paths = sorted(filter(None, image.labels.get(WRITABLE, "").split(",")))
    kept: list[str] = []
    for path in paths:
        if not any(f"{path}/".startswith(f"{above}/") for above in ("/tmp", *kept)):  # noqa: S108
            kept.append(path)
    return tuple(kept)


def thread_limits(cpus: float | None) -> dict[str, str]:
    """Variables that make libraries start as many threads as a limit of CPUs lets run at once.

    Rounded down, since one thread too many makes all the others wait for it.
    """
    if cpus is None:
        return {}
    return dict.fromkeys(_THREADS, str(max(1, int(cpus))))


def _identity(spec: ContainerSpec, image: LocalImage) -> tuple[str | None, Mapping[str, str]]:
    """The user to run as, and what programs want to know of one without an entry in passwd."""
    own = str(image.config.get("User") or "")
    if spec.user is not None or own.partition(":")[0] not in _ROOT:
        return spec.user, {}
    named = _names_set(image)
    # getpass and torch's compiler cache want a name, most other things a home.
    wanted = {"HOME": "/tmp", "USER": "app", "LOGNAME": "app"}  # noqa: S108
    return USER, {name: value for name, value in wanted.items() if name not in named}


def _names_set(image: LocalImage) -> frozenset[str]:
    return frozenset(item.partition("=")[0] for item in image.config.get("Env") or ())
