"""What a stack is made of: services and what they share, before anything is written down.

Rules: plain values only, no Compose syntax, so that other writers can use the same stack. Sizes are
as people write them ("4g"), durations too ("10s").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD = "db-password"  # noqa: S105 - the secret's name
SECRETS = ".dockyard/secrets"
"""The folder of generated secrets, relative to the project; nothing of it is ever committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A health check: a command that exits with 0."""

    command: tuple[str, ...]
    interval: str = "10s"
    timeout: str = "5s"
    start_period: str = "30s"
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service.

    about: one line for a reader; build: the project's folder when Dockyard makes the image;
    waits_for: services that must be healthy (True) or only started (False); published:
    (address, host's port, container's port); mounts: "SOURCE:PATH[:ro]"; secrets: their names;
    gpus: "all", a count or device ids; extra: further settings in Compose's own words.
    """

    name: str
    about: str
    image: str
    build: str | None = None
    command: tuple[str, ...] = ()
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    published: tuple[tuple[str, int, int], ...] = ()
    mounts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("default",)
    waits_for: Mapping[str, bool] = field(default_factory=dict)
    check: Check | None = None
    replicas: int = 1
    gpus: str | int | tuple[str, ...] | None = None
    cpus: float | None = None
    memory: str | None = None
    pids: int | None = None
    shm_size: str | None = None
    read_only: bool = False
    drop_capabilities: bool = False
    grace: str | None = None
    restart: Literal["unless-stopped", "always", "on-failure", "no"] = "unless-stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack: its services in the order that a reader wants, and what they share.

    internal: networks without a way out; volumes: named ones; secrets: name to file, relative to
    the project; foreign: services in Compose's own words; files: further files of the stack, by
    their path relative to where it is written.
    """

    name: str
    services: tuple[Service, ...]
    internal: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def generated_secrets(self) -> tuple[str, ...]:
        """Names of the secrets that are made when they aren't there yet."""
        return tuple(name for name, path in self.secrets.items() if path.startswith(f"{SECRETS}/"))
