"""`[stack]` of the configuration: what runs beside the app, and how the app runs in it.

Rules: as in `config`. Extra services are written in Compose's own words and passed on as they are,
so that nothing of Compose is out of reach; what Dockyard itself makes has keys of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator, Strict, WithJsonSchema

from dockyard.app import values
from dockyard.app.fields import (
    ONE_OR_MORE,
    STRING,
    TABLE,
    Frozen,
    Once,
    One,
    Variables,
    nothing,
)

POSTGRES = "18"
"""The major version of `database = "postgres"`: the current one."""

SERVICES = frozenset({"web", "db", "prometheus", "grafana"})
"""Names of the services that Dockyard makes itself."""

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SERVICE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)?[kmgt]?b?", re.IGNORECASE)
_PUBLISH = re.compile(
    r"(?:(?P<address>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-fA-F:]+\]):)?(?P<port>[0-9]{1,5})"
)
_GPUS = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        STRING,
        {"type": "array", "items": {"anyOf": [{"type": "integer"}, STRING]}},
    ]
}
_VOLUME = re.compile(r"(?P<source>[^:]+):(?P<target>/[^:]*)(?::(?:ro|rw))?")


def _project(value: object) -> str:
    """The stack's name, as Compose takes it."""
    name = values.text(value)
    if not _PROJECT.fullmatch(name):
        raise ValueError(
            f"{values.shown(value)} is no stack's name: lower-case letters, digits, - and _"
        )
    return name


def _database(value: object) -> str | None:
    """false, "postgres", "postgres:17", or the reference of an image that behaves like it."""
    if value is False:
        return None
    if value is True:
        raise ValueError('must name a database: "postgres"')
    written = _image(value)
    name = written.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if "postgres" not in name:
        raise ValueError(f'{values.shown(value)} isn\'t known: the database is "postgres"')
    return f"postgres:{POSTGRES}" if written == "postgres" else written


def _image(value: object) -> str:
    """The reference of an image."""
    written = values.text(value)
    rest, at, digest = written.partition("@")
    head, slash, last = rest.rpartition("/")
    name, colon, tag = last.partition(":")
    try:
        values.image_name(head + slash + name)
        if colon:
            values.tag(tag)
    except ValueError:
        raise ValueError(f'{values.shown(value)} is no image: write "name:tag"') from None
    if at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{values.shown(value)} has a digest that isn't sha256:<64 hex digits>")
    return written


def _monitoring(value: object) -> str | None:
    """true, "prometheus" (without Grafana), or false."""
    if isinstance(value, bool):
        return "grafana" if value else None
    if value == "prometheus":
        return value
    raise ValueError(f'must be true, "prometheus" or false, not {values.shown(value)}')


def _images(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, not {values.shown(value)}")
    for name in value:
        if name not in ("prometheus", "grafana"):
            raise ValueError(
                f"{name!r} has no image of its own: prometheus and grafana have, and `database` "
                "says the database's"
            )
    return {name: _image(item) for name, item in value.items()}


def _replicas(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
        raise ValueError(f"must be a number from 1 to 100, not {values.shown(value)}")
    return value


def _gpus(value: object) -> int | str | tuple[str, ...]:
    """ "all", a number, or a list of device ids."""
    if value == "all":
        return "all"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, list) and value:
        ids = tuple(str(item) if type(item) is int else item for item in value)
        if all(isinstance(item, str) and item for item in ids) and len(set(ids)) == len(ids):
            return ids
    raise ValueError(
        f'{values.shown(value)} names no GPUs: write "all", a number, or a list of devices'
    )


def _size(value: object) -> str:
    """A size in bytes as Compose writes it: "512m", "4g"."""
    written = values.text(value).strip()
    if not _SIZE.fullmatch(written):
        raise ValueError(f'{values.shown(value)} is no size: write "512m" or "4g"')
    return written.lower()


def _cpus(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 1024:
        raise ValueError(f"must be a number of cores such as 2 or 0.5, not {values.shown(value)}")
    return float(value)


def _publish(value: object) -> str | None:
    """false, a port, or ADDRESS:PORT; "" stands for the app's own port on 127.0.0.1."""
    if isinstance(value, bool):
        return "" if value else None
    written = str(value) if isinstance(value, int) else values.text(value)
    match = _PUBLISH.fullmatch(written)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(
            f'{values.shown(value)} is nowhere to publish: write 8080, "0.0.0.0:80" or false'
        )
    return written if match["address"] else f"127.0.0.1:{written}"


def _volume(value: object) -> str:
    """SOURCE:PATH[:ro]."""
    written = values.text(value)
    match = _VOLUME.fullmatch(written)
    if match is None:
        raise ValueError(f'{values.shown(value)} is no volume: write "./data:/data:ro"')
    if ".." in match["target"].split("/") or match["target"] == "/":
        raise ValueError(f"{values.shown(value)} has no proper path in the container")
    return written


def _secret_name(value: object) -> str:
    name = values.text(value)
    if not _SERVICE.fullmatch(name):
        raise ValueError(f"{values.shown(value)} is no secret's name: letters, digits, . _ -")
    if name == "db-password":
        raise ValueError("'db-password' is the database's own, which is made by itself")
    return name


def _services(value: object) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table of services, not {values.shown(value)}")
    for name, service in value.items():
        if name in SERVICES:
            raise ValueError(f"{name!r} is a service that Dockyard makes; choose another name")
        if not _SERVICE.fullmatch(name):
            raise ValueError(f"{name!r} is no service's name: letters, digits, . _ -")
        if not isinstance(service, dict) or not ("image" in service or "build" in service):
            raise ValueError(
                f"{name!r} must be a table in Compose's words, with at least `image` or `build`"
            )
    return value


class StackConfig(BaseModel):
    """What runs beside the app."""

    model_config = TABLE

    name: Annotated[str | None, PlainValidator(_project), WithJsonSchema(STRING)] = Field(
        None,
        description="Name of the stack, which its containers, networks and volumes begin with. "
        "By default the last part of the image's name.",
    )
    database: Annotated[
        str | None,
        PlainValidator(_database),
        WithJsonSchema({"anyOf": [STRING, {"type": "boolean", "const": False}]}),
    ] = Field(
        None,
        description='A database: "postgres" (the current version), "postgres:17", or an image '
        "that behaves like it. The app is given DB_HOST, DB_PORT, DB_NAME, DB_USER and "
        "DB_PASSWORD_FILE; only the app can reach it.",
    )
    monitoring: Annotated[
        Literal["grafana", "prometheus"] | None,
        PlainValidator(_monitoring),
        WithJsonSchema(
            {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": ["prometheus"]}]}
        ),
    ] = Field(
        None,
        description='true: Prometheus with alert rules, and Grafana with a dashboard; "prometheus" '
        "alone.",
    )
    images: Annotated[
        Mapping[str, str],
        PlainValidator(_images),
        Frozen,
        WithJsonSchema({"type": "object", "additionalProperties": STRING}),
    ] = Field(
        default_factory=nothing,
        description="Other images for the parts: { prometheus = …, grafana = … }.",
    )
    replicas: Annotated[
        int,
        PlainValidator(_replicas),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100}),
    ] = Field(1, description="Containers of the app; each is published on a port of its own.")
    gpus: Annotated[
        int | str | tuple[str, ...] | None,
        PlainValidator(_gpus),
        WithJsonSchema(_GPUS),
    ] = Field(
        None, description='GPUs of the app: "all", a number, or a list of devices such as ["0"].'
    )
    cpus: Annotated[float | None, PlainValidator(_cpus), WithJsonSchema({"type": "number"})] = (
        Field(None, description="Cores that each container of the app may use, such as 1.5.")
    )
    memory: Annotated[str | None, PlainValidator(_size), WithJsonSchema(STRING)] = Field(
        None, description='Memory that each container of the app may use, such as "4g".'
    )
    shm_size: Annotated[str, PlainValidator(_size), WithJsonSchema(STRING)] = Field(
        "1g", description="Size of the app's /dev/shm, which data loaders use."
    )
    publish: Annotated[
        str | None,
        PlainValidator(_publish),
        WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer"}, STRING]}),
    ] = Field(
        "",
        description='Where the app is published: 8080 (on 127.0.0.1), "0.0.0.0:80", or false. By '
        "default on 127.0.0.1, under the app's own port.",
    )
    restart: Literal["unless-stopped", "always", "on-failure", "no"] = Field(
        "unless-stopped", description="When containers are started again after they end."
    )
    read_only: Annotated[bool, Strict()] = Field(
        True,
        description="Whether the app's root file system is read-only, except for /tmp and the "
        "folders that it is known to write to.",
    )
    volumes: Annotated[
        tuple[Annotated[str, PlainValidator(_volume)], ...],
        One,
        Once,
        WithJsonSchema(ONE_OR_MORE),
    ] = Field((), description='Volumes of the app, such as "./data:/data:ro" or "cache:/cache".')
    env: Variables = Field(
        default_factory=nothing,
        description="Variables of the app in the stack only. Not for secrets.",
    )
    secrets: Annotated[
        Mapping[
            Annotated[str, PlainValidator(_secret_name)],
            Annotated[str, PlainValidator(values.inner_path)],
        ],
        Frozen,
        WithJsonSchema({"type": "object", "additionalProperties": STRING}),
    ] = Field(
        default_factory=nothing,
        description='Files with secrets, { api-key = "secrets/api-key" }, which the app reads at '
        "/run/secrets/api-key.",
    )
    services: Annotated[
        Mapping[str, Mapping[str, Any]],
        PlainValidator(_services),
        Frozen,
        WithJsonSchema({"type": "object", "additionalProperties": {"type": "object"}}),
    ] = Field(
        default_factory=nothing,
        description="Further services, in Compose's own words: [stack.services.redis].",
    )
