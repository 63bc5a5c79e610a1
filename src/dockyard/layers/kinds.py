"""What kind of thing a file of an image is, told from its path.

Rules: the first kind that matches decides; a path that nothing matches is "other". `SPARE` says
which kinds a running app never reads, and how to be without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dockyard.app.detect.models import is_model

_LIBRARY = re.compile(r"\.so(?:\.[\w.]+)?$")
_IN_ORDER: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "caches",
        re.compile(
            r"(?:^|/)\.cache/|^var/cache/|^var/lib/apt/lists/.|^root/\.(?:npm|conda|cargo)/"
            r"|/conda/pkgs/|^opt/conda/pkgs/"
        ),
    ),
    ("temporary files and logs", re.compile(r"^(?:var/)?tmp/.|^var/log/.|\.log$")),
    ("version control", re.compile(r"(?:^|/)\.(?:git|hg|svn)/")),
    ("bytecode", re.compile(r"\.py[co]$")),
    (
        "CUDA libraries",
        re.compile(
            r"/nvidia/[^/]+/(?:.*/)?lib/|^usr/local/cuda|/cuda_\w+/lib/"
            r"|/lib(?:cu(?:da|blas|dnn|fft|rand|solver|sparse|pti|tensor|file)|nccl|nvrtc|nvJitLink"
            r"|nvToolsExt|nvshmem|cupti|torch_cuda|nvinfer)[\w-]*\.(?:so|a)"
        ),
    ),
    (
        "headers and static libraries",
        re.compile(
            r"\.(?:h|hpp|hxx|hh|cuh|pxd|inl|a|lib|la|cmake)$|/pkgconfig/|^usr/include/|/include/"
        ),
    ),
    (
        "tests",
        re.compile(
            r"(?:site|dist)-packages/.*/(?:tests?|testing)/|/python3\.\d+/(?:test|idlelib)/"
        ),
    ),
    (
        "documentation",
        re.compile(r"^usr/share/(?:doc|man|info|locale|i18n)/|/docs?/|\.(?:rst|md)$"),
    ),
    ("package information", re.compile(r"\.(?:dist|egg)-info/|^var/lib/dpkg/")),
)
_CODE = re.compile(r"\.(?:py|pyi|js|mjs|ts|css|html|sh|pl|rb)$")
_PROGRAM = re.compile(r"^(?:usr/|usr/local/|opt/[^/]+/)?s?bin/")

SPARE: Mapping[str, str] = {
    "deleted or replaced": "Delete it in the RUN that makes it.",
    "duplicates": "One copy and links, or one package instead of two.",
    "caches": "pip --no-cache-dir, cache mounts, rm -rf /var/lib/apt/lists in that RUN.",
    "temporary files and logs": "Delete in the RUN that makes them.",
    "version control": "Write .git into .dockerignore.",
    "headers and static libraries": "Compile in a stage of its own; `trim = true` with Dockyard.",
    "tests": "`trim = true` with Dockyard.",
    "documentation": "dpkg's path-exclude; bases that Dockyard assembles have none.",
}


def kind_of(path: str, size: int) -> str:
    """The kind of a file, by its path without a leading slash and its size in bytes."""
    for name, pattern in _IN_ORDER:
        if pattern.search(path):
            return name
    if is_model(path, size):
        return "models"
    if _LIBRARY.search(path):
        return "libraries"
    if _CODE.search(path):
        return "code"
    return "programs" if _PROGRAM.match(path) else "other"
