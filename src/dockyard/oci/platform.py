"""Platforms (image-spec image-index.md, "platform"): operating system, architecture, variant.

Rules: names are Go's (amd64, arm64); the synonyms that people write are accepted and normalised.
"""

from __future__ import annotations

import platform as _host
from dataclasses import dataclass

from dockyard.errors import ImageError

_SYNONYMS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "arm64/v8": "arm64"}
_KNOWN = ("amd64", "arm64")


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """A platform that images are made for."""

    os: str = "linux"
    architecture: str = "amd64"

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse "linux/amd64", "arm64", "aarch64"…; raises ImageError for any other."""
        os, slash, architecture = text.strip().lower().partition("/")
        if not slash:
            os, architecture = "linux", os
        architecture = _SYNONYMS.get(architecture, architecture)
        if os != "linux" or architecture not in _KNOWN:
            raise ImageError(
                f"the platform {text!r} isn't supported",
                hint="Platforms are linux/amd64 and linux/arm64.",
            )
        return cls(os, architecture)

    @classmethod
    def host(cls) -> Platform:
        """The platform that containers on this machine have by default."""
        machine = _host.machine().lower()
        return cls("linux", _SYNONYMS.get(machine, machine))

    @property
    def machine(self) -> str:
        """The kernel's name of the architecture: x86_64 or aarch64."""
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"
