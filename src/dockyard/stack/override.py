"""What Dockyard adds to a Compose file as it is: a second file that Compose merges over it.

Rules: the user's file is never changed. A service that Dockyard built is given its image instead of
`build:`. One whose project folder is mounted to be written to runs as that folder's owner, because
Dockyard's images run as an unprivileged user, who couldn't write there. It
has an init process, so that it stops at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from dockyard.stack.files import own_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dockyard.stack.existing import Bind, Found, Project

OVERRIDE_NAME = "override.yaml"
_HEADING = """\
# Made by `dockyard up` whenever it runs, and merged over the Compose file: the images that Dockyard
# built, and a label by which `dockyard ps` knows the containers.
"""


class _Reset(str):
    """A value that the file below has, and that is taken away."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Reset, lambda dumper, _: dumper.represent_scalar("!reset", "null"))


def owner_of(service: Found) -> tuple[str, Bind] | None:
    """The "uid:gid" that a service must run as to write where it is built from, if any."""
    if service.user is not None or service.context is None:
        return None
    for bind in service.binds:
        if bind.read_only or not bind.source.is_dir():
            continue
        if bind.source.resolve().is_relative_to(service.context.resolve()):
            status = bind.source.stat()
            return f"{status.st_uid}:{status.st_gid}", bind
    return None


def override_text(project: Project, built: Mapping[str, str], label: str) -> str:
    """The second file; built: the images that Dockyard made, by service; label: NAME=VALUE."""
    services: dict[str, dict[str, object]] = {}
    key, _, value = label.partition("=")
    for service in project.services:
        entry: dict[str, object] = {"labels": {key: value}}
        if service.name in built:
            entry |= {"image": built[service.name], "pull_policy": "never"}
            if service.build:
                entry["build"] = _Reset()
                # Without one the app is process 1, which no SIGTERM ends.
                entry["init"] = True
            if owner := owner_of(service):
                entry["user"] = owner[0]
        services[service.name] = entry
    text: str = yaml.dump({"services": services}, Dumper=_Dumper, sort_keys=False)
    return _HEADING + text


def write_override(project: Project, built: Mapping[str, str], label: str) -> Path:
    """Write the second file into the project's own folder of Dockyard; return its path."""
    path = own_folder(project.folder) / OVERRIDE_NAME
    replace_file(path, override_text(project, built, label))
    return path
