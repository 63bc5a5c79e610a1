"""Compose files: services as data, and the line of each key and item.

Rules: YAML 1.1 as Compose reads it, anchors and merge keys resolved. Scalars stay strings, as
written. A file that is no YAML has no services and a fault; reading never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from dockyard.dockerfile.syntax import Place

NAMES = re.compile(r"(?:docker-)?compose(?:[.-][\w.-]+)?\.ya?ml")
_MOST_NODES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service: its settings, and where they stand, by the keys and indexes that lead there."""

    name: str
    settings: dict[str, Any]
    places: dict[tuple[str | int, ...], Place]

    def get(self, *keys: str) -> Any:
        """The setting below the keys; None where there is none."""
        value: Any = self.settings
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def place(self, *keys: str | int) -> Place:
        """Where a setting stands, or the nearest thing around it."""
        path: tuple[str | int, ...] = keys
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1))

    def environment(self) -> dict[str, tuple[str | None, Place]]:
        """The variables with their values (None: taken from outside) and places."""
        written = self.settings.get("environment")
        found: dict[str, tuple[str | None, Place]] = {}
        if isinstance(written, dict):
            for name, value in written.items():
                text = value if isinstance(value, str) and value != "" else None
                found[name] = (text, self.place("environment", name))
        elif isinstance(written, list):
            for index, item in enumerate(written):
                if isinstance(item, str):
                    name, equals, value = item.partition("=")
                    found[name] = (value if equals else None, self.place("environment", index))
        return found

    def has_gpu(self) -> bool:
        """Whether it asks for a GPU, in any of the ways there are."""
        devices = self.get("deploy", "resources", "reservations", "devices")
        return bool(devices) or "gpus" in self.settings or self.get("runtime") == "nvidia"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFile:
    """A Compose file. fault: what is wrong with its syntax, and where."""

    path: str
    services: tuple[Service, ...] = ()
    fault: tuple[str, Place] | None = None


def read_compose(path: str, text: str) -> ComposeFile:
    """Read a Compose file's text; never raises."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1)
        return ComposeFile(path=path, fault=(error.problem or "isn't valid YAML", place))
    except (yaml.YAMLError, RecursionError, ValueError):
        return ComposeFile(path=path, fault=("isn't valid YAML", Place(1)))
    reader = _Reader()
    try:
        data = reader.value(root, ())
    except RecursionError:
        return ComposeFile(path=path, fault=("is nested too deeply", Place(1)))
    listed = data.get("services") if isinstance(data, dict) else None
    services = []
    for name, settings in (listed if isinstance(listed, dict) else {}).items():
        prefix = ("services", name)
        places = {keys[2:]: place for keys, place in reader.places.items() if keys[:2] == prefix}
        own = settings if isinstance(settings, dict) else {}
        services.append(Service(name=name, settings=own, places=places))
    return ComposeFile(path=path, services=tuple(services))


@dataclass(slots=True)
class _Reader:
    places: dict[tuple[str | int, ...], Place] = field(default_factory=dict)
    left: int = _MOST_NODES

    def value(self, node: Any, path: tuple[str | int, ...]) -> Any:
        self.left -= 1
        if self.left < 0 or len(path) > 40:
            return None
        if isinstance(node, yaml.ScalarNode):
            return node.value
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                mark = item.start_mark
                self.places[(*path, index)] = Place(mark.line + 1, mark.column + 1)
                items.append(self.value(item, (*path, index)))
            return items
        return self.mapping(node, path) if isinstance(node, yaml.MappingNode) else None

    def mapping(self, node: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = key.value
            if name == "<<":
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in sources:
                    found = self.value(source, path)
                    if isinstance(found, dict):
                        merged = found | merged
                continue
            mark = key.start_mark
            self.places[(*path, name)] = Place(mark.line + 1, mark.column + 1)
            own[name] = self.value(value, (*path, name))
        return merged | own
