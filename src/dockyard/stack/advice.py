"""What is dangerous or obsolete in a Compose file as people have it, each with the better line.

Rules: advice, never a refusal: the stack starts all the same. Each finding names its line. Only the
text is looked at; what `dockyard lint` finds in a whole project goes further.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from dockyard.app.stack_config import POSTGRES
from dockyard.app.values import looks_secret

if TYPE_CHECKING:
    from pathlib import Path

_MAX_SIZE = 1 << 20
# The last day of each major version of PostgreSQL (https://www.postgresql.org/support/versioning).
_LAST_DAYS = {
    9: (2021, 11, 11),
    10: (2022, 11, 10),
    11: (2023, 11, 9),
    12: (2024, 11, 21),
    13: (2025, 11, 13),
    14: (2026, 11, 12),
    15: (2027, 11, 11),
    16: (2028, 11, 9),
    17: (2029, 11, 8),
    18: (2030, 11, 14),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One finding: the line in the file, what is wrong with it, and what to write instead."""

    line: int
    what: str
    better: str


def advise(path: Path, *, today: datetime.date | None = None) -> tuple[Advice, ...]:
    """Look at a Compose file; what can't be read has no advice (Compose will say why)."""
    try:
        if path.stat().st_size > _MAX_SIZE:
            return ()
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return ()
    today = today or datetime.datetime.now(datetime.UTC).date()
    found: list[Advice] = []
    top = _mapping(root)
    if "version" in top:
        found.append(
            Advice(line=_line(top["version"]), what="`version` is obsolete", better="remove it")
        )
    services = top.get("services")
    for key, node in services.value if isinstance(services, yaml.MappingNode) else ():
        found += _service(str(key.value), key, _mapping(node), today)
    return tuple(sorted(found, key=lambda item: item.line))


def _service(name: str, node: yaml.Node, service: dict[str, yaml.Node], today: Any) -> list[Advice]:
    found = []
    image = _text(service.get("image"))
    is_postgres = re.search(r"(?:^|/)postgres(?:ql)?(?::|@|$)", image)
    if is_postgres:
        found += _postgres_version(image, service["image"], today)
    for key, value, line in _environment(service.get("environment")):
        if looks_secret(key) and value and "${" not in value:
            found.append(Advice(line=line, what=f"{key} is in the file", better=_secret(key)))
    for item in _items(service.get("ports")):
        text = _text(item)
        if re.fullmatch(r"[0-9]+(?:-[0-9]+)?:[0-9]+(?:-[0-9]+)?(?:/\w+)?", text):
            found.append(
                Advice(
                    line=_line(item),
                    what=f"port {text} of {name} is open to every machine that reaches this one",
                    better=f'"127.0.0.1:{text}"',
                )
            )
    if "build" in service:
        for item in _items(service.get("volumes")):
            source, _, target = _text(item).partition(":")
            if source.rstrip("/") in (".", "${PWD}", "$PWD") and target:
                found.append(
                    Advice(
                        line=_line(item),
                        what=f"the project's folder hides what the image has in {target}",
                        better="remove it; `dockyard up --watch` follows changes of the code",
                    )
                )
    if is_postgres and "healthcheck" not in service:
        found.append(
            Advice(
                line=_line(node),
                what=f"{name} has no health check, so nothing can wait until it answers",
                better='healthcheck: {test: ["CMD", "pg_isready", "-h", "127.0.0.1"], '
                "interval: 5s}",
            )
        )
    if isinstance(waits := service.get("depends_on"), yaml.SequenceNode):
        names = ", ".join(f"{_text(item)}: {{condition: service_healthy}}" for item in waits.value)
        found.append(
            Advice(
                line=_line(waits),
                what=f"{name} doesn't wait until what it depends on is ready",
                better=f"depends_on: {{{names}}}",
            )
        )
    is_pulled = "image" in service and not {"build", "x-dockyard"} & service.keys()
    if is_pulled and re.fullmatch(r"[^@:]+(?::latest)?", image.rpartition("/")[2]):
        found.append(
            Advice(
                line=_line(service["image"]),
                what=f"{image} is another image tomorrow",
                better=f"image: {image.removesuffix(':latest')}:VERSION",
            )
        )
    if "restart" not in service and "deploy" not in service:
        found.append(
            Advice(
                line=_line(node),
                what=f"{name} stays down when it crashes or the machine restarts",
                better="restart: unless-stopped",
            )
        )
    return found


def _postgres_version(image: str, node: yaml.Node, today: Any) -> list[Advice]:
    match = re.search(r":(\d+)", image.partition("@")[0].rpartition("/")[2])
    last = _LAST_DAYS.get(int(match[1])) if match else None
    if match is None or last is None or today <= datetime.date(*last):
        return []
    return [
        Advice(
            line=_line(node),
            what=f"PostgreSQL {match[1]} has had no fixes since {datetime.date(*last)}",
            better=f"image: postgres:{POSTGRES} (its data must be moved with pg_upgrade or a dump)",
        )
    ]


def _secret(name: str) -> str:
    lower = name.lower().replace("_", "-")
    return (
        f"{name}_FILE: /run/secrets/{lower}, and `secrets:` with the file; "
        "`dockyard compose --print` shows how"
    )


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """The values by key, those of merged mappings (`<<`) included."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    own = {str(key.value): value for key, value in node.value}
    return _mapping(own.pop("<<", None)) | own


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _line(node: yaml.Node) -> int:
    mark = node.start_mark
    return int(mark.line) + 1


def _environment(node: yaml.Node | None) -> list[tuple[str, str, int]]:
    """(name, value, line) of each variable, in either of the two forms."""
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), _text(value), _line(key)) for key, value in node.value]
    pairs = [(_text(item).partition("="), item) for item in _items(node)]
    return [(name, value, _line(item)) for (name, _, value), item in pairs]
