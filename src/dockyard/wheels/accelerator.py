"""CUDA in wheels: whether a resolution brings it, which version, and how to get the other kind.

Rules:
- Nothing here is a table of versions: CUDA's version is that of its runtime wheel, and whether a
  build is for a CPU is told by its local version ("+cpu").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.fetch import local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dockyard.wheels.lock import LockedWheel
    from dockyard.wheels.provided import ProvidedDistribution
    from dockyard.wheels.settings import IndexSettings
    from dockyard.wheels.target import Target

# The packages that PyTorch's own index serves in one build per accelerator.
TORCH_FAMILY = ("torch", "torchvision", "torchaudio")
_CUDA_NAME = re.compile(
    r"^nvidia-(cuda|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvjitlink)|-cu1\d$"
)
_CUDA_LOCAL = re.compile(r"\+.*cu\d{2,3}\b")


def cuda_packages(wheels: Iterable[LockedWheel | ProvidedDistribution]) -> list[str]:
    """Names of the wheels that bring CUDA."""
    return [w.name for w in wheels if _CUDA_NAME.search(w.name) or _CUDA_LOCAL.search(w.version)]


def cuda_version(wheels: Iterable[LockedWheel]) -> str | None:
    """CUDA's version ("12.8"), read from its runtime wheel, else from a "+cu128" build."""
    local = None
    for wheel in wheels:
        if re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", wheel.name):
            return ".".join(wheel.version.split(".")[:2])
        if found := re.search(r"\+cu(\d+)(\d)$", wheel.version):
            local = f"{found[1]}.{found[2]}"
    return local


def torch_with_cuda(wheels: Sequence[LockedWheel]) -> LockedWheel | None:
    """The torch wheel of a resolution, if it is one that brings CUDA."""
    torch = next((wheel for wheel in wheels if wheel.name == "torch"), None)
    if torch is None or "+cpu" in torch.version or not cuda_packages(wheels):
        return None
    return torch


def torch_for_cpu(wheels: Sequence[LockedWheel]) -> LockedWheel | None:
    """The torch wheel of a resolution, if it is a "+cpu" build."""
    return next((w for w in wheels if w.name == "torch" and "+cpu" in w.version), None)


def local_cpu_builds(name: str, settings: IndexSettings, target: Target) -> list[str]:
    """Versions of a package's "+cpu" wheels in local folders and file:// indexes, newest first.

    Only wheels that fit the target count.
    """
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    tags = frozenset(target.tags())
    found = set()
    for filename in _local_files(name, settings):
        if "+cpu" not in filename.replace("%2B", "+").replace("%2b", "+"):
            continue
        try:
            _, version, _, wheel_tags = parse_wheel_filename(
                filename.replace("%2B", "+").replace("%2b", "+")
            )
        except InvalidWheelFilename:
            continue
        if tags & wheel_tags:
            found.add(version)
    return [str(version) for version in sorted(found, reverse=True)]


def _local_files(name: str, settings: IndexSettings) -> list[str]:
    found = []
    for link in settings.find_links:
        folder = local_path(link)
        if folder is not None and folder.is_dir():
            found += [file.name for file in folder.glob(f"{name}-*.whl")]
    for index in filter(None, (settings.index_url, *settings.extra_index_urls, *settings.uv.urls)):
        folder = local_path(index) if index.startswith(("file:", "/")) else None
        page = folder / name / "index.html" if folder is not None else None
        if page is not None and page.is_file():
            text = page.read_text(encoding="utf-8", errors="replace")
            found += [link.rpartition("/")[2] for link in re.findall(r'href="([^"#]+)', text)]
    return found
