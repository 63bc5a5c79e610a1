"""`dockyard ps`: the containers, what they do and how they are."""

from __future__ import annotations

import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from dockyard.cli.output import print_table
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from dockyard.engine.api import ContainerState, Engine, Port

_AT_ONCE = 8


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those of others too.")
@click.option("--running", is_flag=True, help="Only those that run.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def ps(*, everything: bool, running: bool, quiet: bool, as_json: bool) -> None:
    """List the containers that Dockyard started, ended ones too."""
    from dockyard.engine.api import MANAGED
    from dockyard.engine.connect import find_engine

    engine = find_engine()
    states = engine.containers(label=None if everything else MANAGED)
    if running:
        states = tuple(state for state in states if state.status == "running")
    if quiet:
        for state in states:
            print(state.id[:12])
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        states = tuple(pool.map(lambda state: _with_health(engine, state), states))
    if as_json:
        print(json.dumps([to_json(state) for state in states], indent=2))
        return
    rows = [
        [
            state.name,
            state.image,
            describe(state),
            ", ".join(describe_port(port) for port in state.ports),
            age(state.created),
        ]
        for state in states
    ]
    print_table(["name", "image", "status", "ports", "made"], rows, shrink="image ports")


def describe(state: ContainerState) -> str:
    """What a container does, in a few words: "running 5 min (healthy)", "exited (3) 2 h ago"."""
    if state.status in ("running", "paused", "restarting"):
        since = age(state.started)
        restarts = f", restarted {state.restarts} times" if state.restarts else ""
        health = f" ({state.health})" if state.health != "none" else ""
        return f"{state.status} {since}{health}{restarts}".rstrip()
    if state.exit_code is None:
        return state.status if not state.error else f"{state.status}: {state.error[:60]}"
    # Docker on the second version of cgroups forgets to say it where only a child was killed.
    why = "out of memory" if state.oom_killed else str(state.exit_code)
    ago = age(state.finished)
    return f"{state.status} ({why})" + (f" {ago} ago" if ago else "")


def describe_port(port: Port) -> str:
    """A published port: "127.0.0.1:8080->80/tcp"."""
    address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip or "0.0.0.0"  # noqa: S104
    return f"{address}:{port.host}->{port.key}"


def age(moment: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was: "12 s", "5 min", "3 h", "2 days"; "" where unknown."""
    if not moment:
        return ""
    # Nanoseconds are more than Python reads.
    at = datetime.fromisoformat(moment)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    seconds = max(0, int(((now or datetime.now(UTC)) - at).total_seconds()))
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {word}"
    return f"{seconds // 86400} days"


def to_json(state: ContainerState) -> dict[str, Any]:
    """All that is known of a container; its environment is left to `inspect`."""
    return {
        "id": state.id,
        "name": state.name,
        "image": state.image,
        "image_id": state.image_id,
        "status": state.status,
        "exit_code": state.exit_code,
        "oom_killed": state.oom_killed,
        "error": state.error,
        "health": state.health,
        "command": shlex.join(state.command),
        "user": state.user,
        "ports": [
            {"container": p.container, "protocol": p.protocol, "address": p.host_ip, "host": p.host}
            for p in state.ports
        ],
        "networks": dict(state.networks),
        "mounts": [
            {"type": m.kind, "source": m.source, "target": m.target, "read_only": m.read_only}
            for m in state.mounts
        ],
        "labels": dict(state.labels),
        "restarts": state.restarts,
        "created": state.created or None,
        "started": state.started or None,
        "finished": state.finished or None,
    }


def _with_health(engine: Engine, state: ContainerState) -> ContainerState:
    """Ask the check of one whose engine hasn't yet: Podman without systemd never does."""
    if state.status != "running" or state.health != "starting":
        return state
    try:
        well = engine.probe(state.id)
    except EngineError:
        return state  # It ended meanwhile.
    if well:
        return replace(state, health="healthy")
    began = datetime.fromisoformat(state.started) if state.started else datetime.now(UTC)
    overdue = (datetime.now(UTC) - began).total_seconds() > state.health_patience
    return replace(state, health="unhealthy") if overdue else state
