"""What would make a stack fail in the middle of its start, found before it begins.

Rules: each check takes what was asked of the engine, and raises one StackError. A port is taken
only if it isn't one of the stack's own.
"""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockyard.stack.existing import Project, Published
    from dockyard.stack.program import Compose


def check_name(project: Project, compose: Compose) -> None:
    """Raise when a stack of another folder has the same name: they would replace each other."""
    for other in _stacks(compose):
        if other.get("Name") != project.name:
            continue
        files = [Path(path) for path in str(other.get("ConfigFiles", "")).split(",") if path]
        if files and not any(path.is_relative_to(project.folder) for path in files):
            raise StackError(
                f"another stack is called {project.name}",
                where=str(files[0]),
                hint=f"Give this one another name: `name` in its [stack], or `name: {project.name}"
                "-2` in its Compose file.",
            )


def _stacks(compose: Compose) -> list[dict[str, object]]:
    try:
        found = json.loads(compose.read("ls", "--all", "--format", "json") or "[]")
    except (StackError, ValueError):
        # podman compose may have no `ls`; then nothing is known of other stacks.
        return []
    return found if isinstance(found, list) else []


def check_ports(
    project: Project, own: Iterable[tuple[str, int]], holders: Mapping[int, str]
) -> None:
    """Raise when a port is taken.

    own: (address, port) that the stack publishes already; holders: the engine's containers by the
    port that they publish.
    """
    mine = {port for _, port in own}
    asked: dict[tuple[str, int], str] = {}
    for service in project.services:
        for published in service.published:
            if not published.host or published.last > published.host:
                continue
            key = (published.address, published.host)
            if key in asked and published.protocol == "tcp":
                raise StackError(
                    f"{asked[key]} and {service.name} both publish port {published.host}",
                    hint="Publish one of them elsewhere.",
                )
            asked[key] = service.name
            if published.host not in mine and _is_taken(published):
                holder = holders.get(published.host)
                raise StackError(
                    f"port {published.host}, where {service.name} is published, is taken"
                    + (f" by the container {holder}" if holder else ""),
                    hint=f"Stop what holds it{f' (docker stop {holder})' if holder else ''}, or "
                    "publish the service elsewhere: `publish` in [stack], `ports:` in a Compose "
                    "file.",
                )


def _is_taken(published: Published) -> bool:
    kind = socket.SOCK_DGRAM if published.protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in published.address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        # As an engine's proxy does: connections of yesterday's server don't hold a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((published.address, published.host))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def check_password(made: Iterable[str], volumes: Iterable[str], stack: str) -> None:
    """Raise when the password was made now, but the database keeps an older one in its volume."""
    volume = f"{stack}_db-data"
    if "db-password" in made and volume in volumes:
        raise StackError(
            f"the database in the volume {volume} has another password than the one just made",
            where=".dockyard/secrets/db-password",
            hint="Put its password into that file. Or, if its data may go: "
            f"docker volume rm {volume}",
        )
