"""What an image stands on: a base assembled from Debian packages, or another image's layers.

Rules:
- Which it is depends on the configuration's `base` alone. A base says which Pythons it has before
  anything is resolved.
- Another image is read, never changed and never run: its layers stay as they are, and its
  configuration is where ours starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.build.base_packages import BasePackages
    from dockyard.build.image_base import BaseImageFacts
    from dockyard.debian.base import DebianBase
    from dockyard.debian.mirror import Mirror
    from dockyard.debian.package import DebianPackage
    from dockyard.oci.image import Image
    from dockyard.wheels.lock import LockedWheel
    from dockyard.wheels.provided import ProvidedDistribution


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

    @property
    def provided(self) -> tuple[ProvidedDistribution, ...]:
        """The Python packages that it has: none."""
        return ()

    def __str__(self) -> str:
        return f"Debian {self.base.suite}, {len(self.base.packages)} packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFoundation:
    """Another image's layers.

    interpreter: its Python's path; glibc: its C library's version; packages: what that Python has.
    """

    name: str
    image: Image
    interpreter: str
    python: str
    glibc: str
    packages: BasePackages

    @property
    def provided(self) -> tuple[ProvidedDistribution, ...]:
        """The Python packages that its Python has."""
        return self.packages.distributions

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


def check_replaced(foundation: Foundation, wheels: Sequence[LockedWheel]) -> None:
    """Raise BuildError where a wheel would lie on top of another version of itself.

    Only a base with a virtual environment of its own at /opt/venv has that: elsewhere a wheel goes
    before what the base has.
    """
    if isinstance(foundation, DebianFoundation) or not foundation.packages.own_venv:
        return
    have = {item.name: item.version for item in foundation.provided}
    for wheel in wheels:
        if wheel.name in have:
            raise BuildError(
                f"the base has {wheel.name} {have[wheel.name]} in its /opt/venv, and the project "
                f"needs {wheel.name} {wheel.version} there",
                where="`base`",
                hint="Ask for the version that the base has, or use a base without it.",
            )


def image_foundation(
    base: str, image: Image, facts: BaseImageFacts, python: str
) -> ImageFoundation:
    """The image as what is built upon, with the Python that was chosen in it."""
    from dockyard.build.image_base import need_glibc

    if python not in facts.pythons:
        raise BuildError(
            f"the base has no Python {python}",
            where="`base`",
            hint=f"It has {_listed(sorted(facts.pythons))}.",
        )
    return ImageFoundation(
        name=base,
        image=image,
        interpreter=facts.pythons[python],
        python=python,
        glibc=need_glibc(facts),
        packages=facts.packages[python],
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if names else "none"
