"""The Compose files of a folder, and what Compose makes of them.

Rules: which files count is Compose's own rule: COMPOSE_FILE, else the first of the four names with
its override. What they mean is asked of Compose itself (`config`), with its variables, merges and
anchors resolved.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dockyard.errors import StackError
from dockyard.stack.compose import BUILT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.stack.program import Compose

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A port of a service on the host; host 0: a free one. last: the end of a range."""

    address: str
    host: int
    last: int
    container: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A folder or file of the host in a service."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A service as Compose understands it.

    image: "" when it is only built; context: the folder that it is built from; dockerfile: its
    path, None when Dockyard is to build the folder as it is; build: Compose's own build settings.
    """

    name: str
    image: str
    context: Path | None
    dockerfile: Path | None
    build: Mapping[str, Any]
    user: str | None
    published: tuple[Published, ...]
    binds: tuple[Bind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A stack as Compose understands it."""

    name: str
    folder: Path
    services: tuple[Found, ...]

    def image_of(self, service: Found) -> str:
        """The name of the image that a service runs; Compose's own when it has none."""
        return service.image or f"{self.name}-{service.name}"


def compose_files(folder: Path, environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """The folder's Compose files, as Compose itself would find them; none is ()."""
    environ = os.environ if environ is None else environ
    if named := environ.get("COMPOSE_FILE"):
        separator = environ.get("COMPOSE_PATH_SEPARATOR", os.pathsep)
        return tuple(folder / name for name in named.split(separator) if name)
    for name in NAMES:
        path = folder / name
        if path.is_file():
            stem = path.name.rpartition(".")[0]
            overrides = [folder / f"{stem}.override.{suffix}" for suffix in ("yml", "yaml")]
            return (path, *[override for override in overrides if override.is_file()][:1])
    return ()


def read_project(compose: Compose) -> Project:
    """Ask Compose what its files mean; raises StackError when they are wrong."""
    # As YAML: in JSON some versions of Compose leave a service's extension fields out.
    text = compose.read("config")
    try:
        document = yaml.safe_load(text)
        services = document["services"]
        name = str(document["name"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise StackError(
            f"{compose} doesn't say what its file means",
            hint="Compose 2.5 or newer is needed.",
        ) from error
    found = [_found(name, value, compose.folder) for name, value in services.items()]
    return Project(name=name, folder=compose.folder, services=tuple(found))


def _found(name: str, service: Mapping[str, Any], folder: Path) -> Found:
    build = service.get("build") or {}
    ours = service.get(BUILT) or {}
    context = dockerfile = None
    if isinstance(ours, dict) and ours.get("build"):
        context = (folder / str(ours["build"])).resolve()
    elif build:
        # A context may be a URL; then it is the engine's to build.
        context = Path(str(build.get("context", folder)))
        dockerfile = context / str(build.get("dockerfile", "Dockerfile"))
    return Found(
        name=name,
        image=str(service.get("image") or ""),
        context=context,
        dockerfile=dockerfile,
        build=build,
        user=service.get("user"),
        published=tuple(_published(port) for port in service.get("ports") or ()),
        binds=tuple(
            Bind(
                source=Path(volume["source"]),
                target=str(volume["target"]),
                read_only=bool(volume.get("read_only")),
            )
            for volume in service.get("volumes") or ()
            if volume.get("type") == "bind"
        ),
    )


def _published(port: Mapping[str, Any]) -> Published:
    first, _, last = str(port.get("published") or "0").partition("-")
    return Published(
        address=str(port.get("host_ip") or ""),
        host=int(first),
        last=int(last or first),
        container=int(port["target"]),
        protocol=str(port.get("protocol") or "tcp"),
    )
