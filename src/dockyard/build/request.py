"""What is asked of a build: the folder, where it may reach out, and where the image goes.

Rules: parsed once, at the edge; a wrong value is a UsageError here and nowhere later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockyard.errors import UsageError
from dockyard.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.oci.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A project folder and what the command line changes of its configuration.

    platforms: what to build for, instead of the configured ones; overrides: configuration keys
    and values that win over dockyard.toml; tags: the image's names, instead of the configured
    ones; insecure: plain HTTP is allowed with the registries named here; upgrade: resolve anew;
    locked: pylock.toml must be there and current; offline: use only what the cache holds.
    """

    folder: Path
    platforms: tuple[Platform, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    insecure: bool = False
    upgrade: bool = False
    locked: bool = False
    offline: bool = False

    @classmethod
    def parse(
        cls,
        folder: Path,
        *,
        platforms: Sequence[str] = (),
        overrides: Mapping[str, Any],
        tags: Sequence[str] = (),
        **switches: bool,
    ) -> BuildRequest:
        """Make a request from command-line values; an item of platforms may list several."""
        if switches.get("locked") and switches.get("upgrade"):
            raise UsageError(
                "--locked and --upgrade contradict each other",
                hint="Run dockyard lock --upgrade first, then build with --locked.",
            )
        names = [name for item in platforms for name in item.split(",")]
        return cls(
            folder=folder,
            platforms=tuple(dict.fromkeys(Platform.parse(name) for name in names if name.strip())),
            overrides=dict(overrides),
            tags=tuple(tags),
            **switches,
        )


TargetKind = Literal["docker", "oci", "archive", "registry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an image goes: the engine, an OCI layout's folder, an archive's file, a registry.

    reference: the name in a registry; None for the image's own names.
    """

    kind: TargetKind
    path: Path | None = None
    reference: Reference | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse "docker", "oci:DIR", "archive:FILE", "registry" or "registry:NAME[:TAG]"."""
        kind, colon, rest = text.partition(":")
        if text in ("docker", "registry"):
            return cls(kind="docker" if text == "docker" else "registry")
        if colon and rest and kind == "registry":
            return cls(kind="registry", reference=registry_reference(rest))
        if colon and rest and kind == "oci":
            return cls(kind="oci", path=Path(rest))
        if colon and rest and kind == "archive":
            return cls(kind="archive", path=Path(rest))
        raise UsageError(
            f"{text!r} is no output",
            hint="Outputs are docker, oci:DIR, archive:FILE.tar and registry:NAME.",
        )

    def __str__(self) -> str:
        where = self.path if self.reference is None else self.reference
        return self.kind if where is None else f"{self.kind}:{where}"


def registry_reference(text: str) -> Reference:
    """A name to push to, which must say where; raises UsageError for a bare name or a digest."""
    from dockyard.oci.reference import DEFAULT_DOMAIN, Reference

    reference = Reference.parse(text)
    bare = reference.domain == DEFAULT_DOMAIN and reference.path.startswith("library/")
    if reference.digest is not None or bare:
        raise UsageError(
            f"{text!r} names no place to push to",
            hint="Name the registry and the repository: -t REGISTRY/NAME:TAG, or set `name` in "
            "dockyard.toml.",
        )
    return reference
