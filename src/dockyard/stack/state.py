"""The containers of a stack as they are now, and where each service answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.stack.existing import Published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.stack.program import Compose


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A container of a stack. state: running, exited…; health: "" where there is no check."""

    service: str
    name: str
    state: str
    health: str
    exit_code: int
    published: tuple[Published, ...]

    @property
    def condition(self) -> str:
        """One word for how it is."""
        if self.state == "running" and self.health:
            return self.health
        return f"exited ({self.exit_code})" if self.state == "exited" else self.state

    def urls(self, host: str = "127.0.0.1") -> tuple[str, ...]:
        """Where it answers, seen from here."""
        return tuple(
            f"http://{_shown(port.address, host)}:{port.host}"
            for port in self.published
            if port.protocol == "tcp"
        )


def members(compose: Compose) -> tuple[Member, ...]:
    """The stack's containers, ended ones too, by service and name."""
    found = [_member(item) for item in _objects(compose.read("ps", "--all", "--format", "json"))]
    return tuple(sorted(found, key=lambda member: (member.service, member.name)))


def _objects(text: str) -> list[Mapping[str, Any]]:
    """JSON objects: one array (Compose before 2.21), or one on each line."""
    text = text.strip()
    if text.startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line]


def _member(item: Mapping[str, Any]) -> Member:
    published = {
        # The same port on IPv4 and IPv6 is one to a reader.
        (port["PublishedPort"], port["TargetPort"], port["Protocol"]): Published(
            address=str(port.get("URL") or ""),
            host=int(port["PublishedPort"]),
            last=int(port["PublishedPort"]),
            container=int(port["TargetPort"]),
            protocol=str(port["Protocol"]),
        )
        for port in item.get("Publishers") or ()
        if port.get("PublishedPort")
    }
    return Member(
        service=str(item.get("Service", "")),
        name=str(item.get("Name", "")),
        state=str(item.get("State", "")).lower(),
        health=str(item.get("Health", "")).lower(),
        exit_code=int(item.get("ExitCode") or 0),
        published=tuple(published.values()),
    )


def _shown(address: str, host: str) -> str:
    if address in ("", "0.0.0.0", "::"):  # noqa: S104 - every address, and so this one
        return host
    return f"[{address}]" if ":" in address else address
