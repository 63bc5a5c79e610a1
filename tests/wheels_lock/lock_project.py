"""A project folder as the tests see it, and a reporter that remembers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dockyard.cache import Cache
from dockyard.progress import SilentReporter
from dockyard.wheels.lock import Lock
from dockyard.wheels.requirement import DependencySource, SourceKind
from dockyard.wheels.resolve import ResolveRequest, resolve
from dockyard.wheels.settings import gather_settings
from dockyard.wheels.target import Target


class Heard(SilentReporter):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.tasks: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def task(self, text: str, *, total: int | None = None) -> Iterator:
        self.tasks.append(text)
        with super().task(text, total=total) as task:
            yield task


@dataclass
class Project:
    """A project folder; `resolve` does what a build does."""

    root: Path
    cache: Cache
    heard: Heard = field(default_factory=Heard)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def request(
        self,
        kind: SourceKind = "requirements.txt",
        *,
        python: str = "3.11",
        architecture: str = "amd64",
        glibc: str = "2.36",
        **more: object,
    ) -> ResolveRequest:
        return ResolveRequest(
            source=DependencySource(kind=kind, path=self.root / kind),
            target=Target(python=python, architecture=architecture, glibc=glibc),
            root=self.root,
            settings=gather_settings(self.root),
            **more,
        )

    def resolve(
        self, kind: SourceKind = "requirements.txt", *, offline: bool = False, **more: object
    ) -> Lock:
        request = self.request(kind, **more)
        return resolve(request, cache=self.cache, reporter=self.heard, offline=offline)

    def requirements(self, text: str, **more: object) -> Lock:
        self.write("requirements.txt", text)
        return self.resolve(**more)


def versions(lock: Lock) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in lock.wheels}
