"""What the server is told: where its models are, how it listens, what it allows.

Rules: everything has a default that is right for a container; whatever reads a command line or the
environment makes one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockyard_serve.http.connection import Limits

MAX_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """A model's queue. max_batch_size: None for what the model says; times in seconds."""

    max_batch_size: int | None = None
    max_delay: float = 0.0
    max_queue: int = 512
    timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The server.

    model: a file, a folder in a framework's own format, a folder of models
    (`NAME/VERSION/…`), or `module:Class`. name: of a single model; None for the file's.
    threads: for one call of the model; None for the CPU quota, divided by the workers.
    grace: seconds from SIGTERM to the end. options: for every model's loader.
    """

    model: str
    name: str | None = None
    host: str = "0.0.0.0"  # noqa: S104  A container's port is published, or it isn't.
    port: int = 8000
    workers: int = 1
    threads: int | None = None
    grace: float = 25.0
    poll: float | None = None
    queue: QueueSettings = field(default_factory=QueueSettings)
    limits: Limits = field(default_factory=Limits)
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    access_log: bool = False
    log_dir: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
