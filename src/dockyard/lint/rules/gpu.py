"""DY5: GPUs: who gets one, what the container runtime must know, shared memory."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import hit
from dockyard.lint.rule import rule
from dockyard.lint.rules.dependencies import installs_cuda

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import Subject

_TRAIN = "from torch.utils.data import DataLoader\nloader = DataLoader(data, num_workers=4)\n"
_CUDA = "import torch\nmodel.to('cuda')\n"
_GPU = (
    "    deploy:\n      resources:\n        reservations:\n          devices:\n"
    "            - driver: nvidia\n              capabilities: [gpu]\n"
)


@rule(
    "DY501",
    "small-shared-memory",
    "Shared memory (/dev/shm) is too small for what goes through it",
    severity="error",
    cost="`Bus error` or `unable to write to file </torch_…>` in the first epochs.",
    why="""An engine gives a container 64 MB of /dev/shm. DataLoader's workers pass batches and
    NCCL its buffers through it.""",
    bad={"compose.yaml": "services:\n  train:\n    build: .\n", "train.py": _TRAIN},
    good={
        "compose.yaml": "services:\n  train:\n    build: .\n",
        "train.py": "from torch.utils.data import DataLoader\nloader = DataLoader(data)\n",
    },
    fixed={
        "compose.yaml": "services:\n  train:\n    build: .\n    shm_size: 8gb\n",
        "train.py": _TRAIN,
    },
)
def small_shared_memory(subject: Subject) -> Iterator[Hit]:
    """Workers or process groups in the code, and a service without shm_size or ipc."""
    reason = ""
    for module, call in subject.calls():
        if call.method == "DataLoader":
            workers = call.keyword("num_workers")
            if workers is not None and not (
                isinstance(workers, ast.Constant) and not workers.value
            ):
                reason = f"{module.path}:{call.node.lineno} loads data with workers"
        elif call.method == "init_process_group":
            reason = f"{module.path}:{call.node.lineno} starts a process group"
    if not reason:
        return
    for file, service in subject.built_services():
        mounts = str(service.get("tmpfs") or "") + str(service.get("volumes") or "")
        if service.get("shm_size") or service.get("ipc") or "/dev/shm" in mounts:  # noqa: S108
            continue
        yield hit(
            file.path,
            service.place(),
            f"{service.name} has 64 MB of shared memory, and {reason}",
            fix="Set shm_size: 8gb, or ipc: host.",
        )


@rule(
    "DY502",
    "nvidia-variables",
    "The NVIDIA variables are missing",
    cost="`--gpus all` gives the devices but not the driver's libraries: no CUDA in the container.",
    why="""NVIDIA's container runtime reads NVIDIA_VISIBLE_DEVICES and NVIDIA_DRIVER_CAPABILITIES
    from the image. CUDA bases set them; python and debian don't. Without `compute` libcuda
    isn't mounted.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1\n",
        "app.py": _CUDA,
    },
    good={
        "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n"
        "RUN pip install --no-cache-dir torch==2.5.1\n",
        "app.py": _CUDA,
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\n"
        "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility\n"
        "RUN pip install --no-cache-dir torch==2.5.1\n",
        "app.py": _CUDA,
    },
)
def nvidia_variables(subject: Subject) -> Iterator[Hit]:
    """CUDA wheels and code for a GPU on a base that isn't NVIDIA's."""
    if not subject.uses_gpu:
        return
    for view in subject.dockerfiles:
        name, tag, line = view.image
        sets_them = (
            "cuda" in f"{name}{tag}" or "gpu" in tag or name.startswith(("nvcr.io", "nvidia/"))
        )
        if not name or sets_them or name.startswith("pytorch/") or installs_cuda(view) is None:
            continue
        missing = [
            variable
            for variable in ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
            if variable not in view.env
        ]
        if missing:
            yield hit(
                view.path,
                Place(line),
                f"{subject.uses_gpu}, and the image doesn't set {' and '.join(missing)}",
                fix="ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            )


@rule(
    "DY503",
    "baked-in-devices",
    "The image decides about devices or preloads",
    cost="On another host it sees no GPU, or the wrong one, or doesn't start at all.",
    why="""CUDA_VISIBLE_DEVICES chooses among the GPUs of the host, which the image doesn't know.
    LD_PRELOAD and LD_LIBRARY_PATH make the loader take other libraries than the wheels were
    tested with.""",
    bad="FROM python:3.12-slim\nENV CUDA_VISIBLE_DEVICES=0\n",
    good="FROM python:3.12-slim\nENV NVIDIA_VISIBLE_DEVICES=all\n",
    fixed="FROM python:3.12-slim\n",
)
def baked_in_devices(subject: Subject) -> Iterator[Hit]:
    """CUDA_VISIBLE_DEVICES or LD_PRELOAD in ENV."""
    for view in subject.dockerfiles:
        for name in ("CUDA_VISIBLE_DEVICES", "LD_PRELOAD"):
            if name in view.env:
                yield hit(
                    view.path,
                    view.env_place(name),
                    f"{name}={view.env[name]}",
                    fix="Give it at run time: `dockyard run -e`, Compose's environment.",
                )


@rule(
    "DY504",
    "no-gpu-reservation",
    "The Compose service gets no GPU",
    cost="The app runs on the processor, many times slower, or fails.",
    why="""A container sees no GPU unless it is asked for. The code is written for one.""",
    bad={
        "compose.yaml": "services:\n  app:\n    build: .\n",
        "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n",
        "app.py": _CUDA,
    },
    good={"compose.yaml": "services:\n  app:\n    build: .\n", "app.py": "import torch\n"},
    fixed={
        "compose.yaml": "services:\n  app:\n    build: .\n" + _GPU,
        "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n",
        "app.py": _CUDA,
    },
)
def no_gpu_reservation(subject: Subject) -> Iterator[Hit]:
    """Services built here without a device, where the image has CUDA and the code asks for it."""
    if any(service.has_gpu() for _, service in subject.services()):
        return
    has_cuda = any(
        "cuda" in (view.final.base() or "" if view.final else "") or installs_cuda(view)
        for view in subject.dockerfiles
    )
    if not has_cuda or not subject.uses_gpu:
        return
    for file, service in subject.built_services():
        yield hit(
            file.path,
            service.place(),
            f"{service.name} reserves no GPU, but {subject.uses_gpu}",
            fix="Add deploy.resources.reservations.devices with capabilities: [gpu].",
        )
