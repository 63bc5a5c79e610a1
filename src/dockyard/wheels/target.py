"""What wheels are chosen for: a Python, an architecture and a glibc, never the host's.

Rules (packaging's "Platform compatibility tags", PEP 600): on Linux with glibc 2.N every
manylinux_2_M with M <= N fits, the newest first; the tag linux_<arch> comes last.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from dockyard.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.markers import Environment
    from packaging.tags import Tag

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# The platforms that uv knows by name (`uv pip compile --help`), since 0.9.
_UV_GLIBCS = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """python: "3.11", or "3.11.2" where the base's is known in full; architecture: "amd64" or
    "arm64"; glibc: "2.36"."""

    python: str
    architecture: str
    glibc: str

    def __post_init__(self) -> None:
        numbers = self.python.split(".")
        if len(numbers) not in (2, 3) or not all(part.isdigit() for part in numbers):
            raise ResolveError(f"{self.python!r} is no Python version", hint='Write it as "3.11".')
        if self.architecture not in MACHINES:
            raise ResolveError(
                f"wheels for the architecture {self.architecture!r} can't be chosen",
                hint="The architectures are amd64 and arm64.",
            )
        major, _, minor = self.glibc.partition(".")
        if major != "2" or not minor.isdigit() or int(minor) < _UV_GLIBCS[-1]:
            raise ResolveError(
                f"wheels for glibc {self.glibc!r} can't be chosen",
                hint="The base must have glibc 2.17 or newer.",
            )

    @property
    def minor(self) -> str:
        """Python's version without its patch number: "3.11"."""
        return ".".join(self.python.split(".")[:2])

    @property
    def machine(self) -> str:
        """The kernel's name of the architecture: "x86_64"."""
        return MACHINES[self.architecture]

    @property
    def native(self) -> bool:
        """Whether what is built on this host has the target's architecture and system."""
        host = {"amd64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine().lower(), platform.machine().lower()
        )
        return sys.platform == "linux" and host == self.machine

    @property
    def uv_platform(self) -> str:
        """uv's name for the newest platform that this target covers."""
        have = int(self.glibc.partition(".")[2])
        return f"{self.machine}-manylinux_2_{next(n for n in _UV_GLIBCS if n <= have)}"

    def platforms(self) -> list[str]:
        """Platform tags, best first."""
        have = int(self.glibc.partition(".")[2])
        oldest = 5 if self.machine == "x86_64" else 17
        found = []
        for minor in range(have, oldest - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY:
                found.append(f"{_LEGACY[minor]}_{self.machine}")
        return [*found, f"linux_{self.machine}"]

    def tags(self) -> Sequence[Tag]:
        """Wheel tags that fit, best first."""
        return _tags(self)

    def environment(self) -> Environment:
        """The values of environment markers (PEP 508) in the image."""
        full = self.python if self.python.count(".") == 2 else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.machine,
            # The kernel's release is the running host's; markers on it can't be answered.
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "platform_python_implementation": "CPython",
            "python_version": self.minor,
            "sys_platform": "linux",
        }

    def __str__(self) -> str:
        return f"Python {self.minor} on linux/{self.architecture} with glibc {self.glibc}"


@lru_cache(maxsize=8)
def _tags(target: Target) -> tuple[Tag, ...]:
    from packaging.tags import compatible_tags, cpython_tags

    version = tuple(int(part) for part in target.minor.split("."))
    platforms = target.platforms()
    interpreter = "cp" + target.minor.replace(".", "")
    return (
        # The ABI is named, for by default packaging asks the host's (debug, free-threaded).
        *cpython_tags(version, abis=[interpreter], platforms=platforms),
        *compatible_tags(version, interpreter, platforms),
    )
