"""What can't be understood: named by its line, so that an engine can be asked instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.errors import DockerfileError

if TYPE_CHECKING:
    from dockyard.dockerfile.syntax import Instruction


class NotUnderstood(DockerfileError):
    """An instruction whose effect isn't known without running it."""


class Site:
    """Where in which file an instruction stands, for errors."""

    def __init__(self, name: str, made: Instruction) -> None:
        self.name = name
        self.made = made

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.name}:{self.made.line}"

    def refuse(self, reason: str) -> NotUnderstood:
        """The refusal, for a reason that completes "…, because"."""
        keyword = self.made.keyword
        return NotUnderstood(
            f"{keyword} isn't built without an engine here: {reason}",
            where=self.where,
            hint="An engine can: dockyard build -f … --builder docker.",
        )

    def fail(self, what: str, hint: str | None = None) -> DockerfileError:
        """The error for something that no builder would do either."""
        return DockerfileError(what, where=self.where, hint=hint)
