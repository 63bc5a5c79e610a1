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


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A project folder and what the command line changes of its configuration.

    platforms: what to build for, instead of the configured ones; overrides: configuration keys
    and values that win over dockyard.toml; tags: the image's names, instead of the configured
    ones; upgrade: resolve anew; locked: pylock.toml must be there and current; offline: use only
    what the cache holds.
    """

    folder: Path
    platforms: tuple[Platform, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
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


TargetKind = Literal["docker", "oci", "archive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an image goes: the engine, an OCI layout's folder, or an archive's file."""

    kind: TargetKind
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse "docker", "oci:DIR" or "archive:FILE"."""
        kind, colon, rest = text.partition(":")
        if text == "docker":
            return cls(kind="docker")
        if colon and rest and kind == "oci":
            return cls(kind="oci", path=Path(rest))
        if colon and rest and kind == "archive":
            return cls(kind="archive", path=Path(rest))
        raise UsageError(
            f"{text!r} is no output",
            hint="Outputs are docker, oci:DIR and archive:FILE.tar.",
        )

    def __str__(self) -> str:
        return self.kind if self.path is None else f"{self.kind}:{self.path}"
