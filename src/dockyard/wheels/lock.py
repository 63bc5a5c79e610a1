"""What a resolution gives for one platform: exact files, and what must be built first.

Rules:
- A lock holds one file per package, each with its SHA-256; nothing in it depends on the host.
- URLs may hold credentials: they are never shown (not by repr either) and never written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.wheels.provided import ProvidedDistribution
    from dockyard.wheels.target import Target

SourceForm = Literal["sdist", "archive", "vcs", "directory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedWheel:
    """One wheel to install.

    sha256: hexadecimal; size: bytes; url: https://, file:// or an absolute path, possibly with
    credentials; requested: asked for by name, not only a dependency; direct_url: the content of
    direct_url.json (PEP 610) for what didn't come from an index.
    """

    name: str
    version: str
    filename: str
    sha256: str
    size: int | None
    url: str = field(repr=False)
    requested: bool = False
    direct_url: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSource:
    """Source code that becomes a wheel before it can be installed: see `sdist.build_sources`.

    url: where it is (an absolute path for a directory), possibly with credentials; commit: the
    exact revision of a "vcs"; subdirectory: where the project is inside.
    """

    form: SourceForm
    name: str
    version: str | None
    url: str = field(repr=False)
    filename: str | None = None
    sha256: str | None = None
    size: int | None = None
    vcs: str | None = None
    requested_revision: str | None = None
    commit: str | None = None
    subdirectory: str | None = None
    requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EditableProject:
    """A project that is installed in place: its folder becomes part of the app.

    path: absolute; version: None when only a build would tell.
    """

    name: str
    version: str | None
    path: Path
    requested: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A resolution for one platform.

    python: "3.11"; architecture: "amd64"; glibc: "2.36"; wheels: sorted by name; sources: what is
    still to be built (empty after `build_sources`); editables: projects that stay in the app;
    inputs: SHA-256 of what the project asked for; document: the lock as PEP 751 has it, paths
    absolute, no credentials; extra: the [tool.dockyard] table; cuda: CUDA's version in the
    wheels, None without CUDA; notes: what a user should know about the choice; from_base: what the
    base has of it, which isn't among the wheels.
    """

    python: str
    architecture: str
    glibc: str
    wheels: tuple[LockedWheel, ...]
    inputs: str
    sources: tuple[LockedSource, ...] = ()
    editables: tuple[EditableProject, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    cuda: str | None = None
    notes: tuple[str, ...] = ()
    from_base: tuple[ProvidedDistribution, ...] = ()

    @property
    def target(self) -> Target:
        """The platform this is for."""
        from dockyard.wheels.target import Target

        return Target(python=self.python, architecture=self.architecture, glibc=self.glibc)
