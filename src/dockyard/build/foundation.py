"""What an image stands on: a base assembled from Debian packages, or another image's layers.

Rules:
- Which it is depends on the configuration's `base` alone. A base says which Pythons it has before
  anything is resolved.
- Another image is read, never changed and never run: its layers stay as they are, and its
  configuration is where ours starts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.debian.base import DebianBase
    from dockyard.debian.mirror import Mirror
    from dockyard.debian.package import DebianPackage
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform

_LIBC = re.compile(rb"GNU C Library [^\n]*? version (\d+\.\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianFoundation:
    """Debian packages, chosen and not yet fetched. apt: what the configuration adds."""

    base: DebianBase
    apt: tuple[DebianPackage, ...]
    mirror: Mirror

    @property
    def glibc(self) -> str:
        """The C library's version, "2.36"."""
        return self.base.glibc

    @property
    def interpreter(self) -> str:
        """The interpreter's path in the image."""
        return f"usr/bin/python{self.base.python}"

    def __str__(self) -> str:
        return f"Debian {self.base.suite}, {len(self.base.packages)} packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFoundation:
    """Another image's layers. interpreter: its Python's path; glibc: its C library's version."""

    name: str
    image: Image
    interpreter: str
    python: str
    glibc: str

    def __str__(self) -> str:
        return self.name


Foundation = DebianFoundation | ImageFoundation


def is_debian(base: str | None) -> bool:
    """Whether the configured base is assembled from Debian packages."""
    from dockyard.debian.contents import SUITES

    return base is None or base in SUITES.values()


def debian_pythons(base: str | None) -> tuple[str, ...]:
    """The Pythons of the Debian suites that this base allows, such as ("3.11", "3.13")."""
    from dockyard.debian.contents import SUITES

    return tuple(python for python, suite in SUITES.items() if base in (None, suite))


def open_image(base: str, platform: Platform) -> Image:
    """Open a local base image: "oci:DIR" or "archive:FILE"; raises BuildError for others."""
    kind, _, rest = base.partition(":")
    if kind == "oci" and rest:
        from dockyard.oci.layout import read_layout

        return read_layout(Path(rest), platform=platform)
    if kind == "archive" and rest:
        from dockyard.oci.archive import read_archive

        return read_archive(Path(rest), platform=platform)
    raise BuildError(
        f"the base {base!r} is in a registry, and bases from registries aren't supported yet",
        where="`base`",
        hint="Leave `base` out, or save the image and name the file: docker save IMAGE -o "
        'base.tar, then base = "archive:base.tar".',
    )


def image_pythons(image: Image) -> dict[str, str]:
    """The Pythons in an image: minor version to the interpreter's path."""
    from dockyard.oci.tree import read_tree

    found: dict[str, str] = {}
    for path in read_tree(image).files:
        match = re.fullmatch(r"(?:usr/local|usr|opt/[^/]+)/bin/python(3\.\d+)", path)
        if match and (match[1] not in found or path.startswith("usr/local")):
            found[match[1]] = path
    return found


def image_glibc(image: Image) -> str:
    """The version of an image's C library, read from the library; raises BuildError without one."""
    from dockyard.oci.tree import read_tree

    tree = read_tree(image)
    for path in tree.files:
        if re.fullmatch(r"(?:usr/)?lib(?:64)?/(?:[^/]+-linux-gnu/)?libc\.so\.6", path):
            data = tree.read(path, max_size=16 << 20)
            match = _LIBC.search(data) if data is not None else None
            if match is not None:
                return match[1].decode()
    raise BuildError(
        "the base has no GNU C library, which wheels for Linux need",
        where="`base`",
        hint="Use a base made from Debian, Ubuntu, or a distribution like them.",
    )


def open_foundation(base: str, python: str, platform: Platform) -> ImageFoundation:
    """Open a local base image and find the Python that was chosen in it."""
    image = open_image(base, platform)
    pythons = image_pythons(image)
    if python not in pythons:
        raise BuildError(
            f"the base has no Python {python}",
            where="`base`",
            hint=f"It has {_listed(sorted(pythons))}.",
        )
    return ImageFoundation(
        name=base,
        image=image,
        interpreter=pythons[python],
        python=python,
        glibc=image_glibc(image),
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if names else "none"
