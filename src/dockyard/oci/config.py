"""Image configurations (image-spec config.md): how a container of the image starts, and its past.

Rules:
- What Docker adds to the spec and everybody reads (Healthcheck, Shell, OnBuild) is kept.
- Unknown fields of a config that was read are kept as they are, so that an image made on top of
  another loses nothing.
- Written canonically: equal configs have equal digests.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dockyard.errors import ImageError
from dockyard.oci.digest import Digest
from dockyard.oci.documents import canonical, parse
from dockyard.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH = "1980-01-01T00:00:00Z"  # as in the tar headers; see dockyard.oci.tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """How an engine asks whether a container is well; times in seconds."""

    test: tuple[str, ...]
    interval: float = 0
    timeout: float = 0
    start_period: float = 0
    retries: int = 0

    def to_json(self) -> dict[str, Any]:
        """Docker's form: times in nanoseconds, zeros (the engine's defaults) left out."""
        value: dict[str, Any] = {"Test": list(self.test)}
        for key, seconds in (
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
        ):
            if seconds:
                value[key] = round(seconds * 1e9)
        if self.retries:
            value["Retries"] = self.retries
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Healthcheck:
        """Read Docker's form."""
        return cls(
            test=tuple(value.get("Test") or ()),
            interval=value.get("Interval", 0) / 1e9,
            timeout=value.get("Timeout", 0) / 1e9,
            start_period=value.get("StartPeriod", 0) / 1e9,
            retries=value.get("Retries", 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Where a layer (or, if empty_layer, a change of the config) comes from."""

    created_by: str = ""
    created: str | None = None
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, Any]:
        """The spec's form."""
        value: dict[str, Any] = {}
        if self.created is not None:
            value["created"] = self.created
        for key, text in (
            ("created_by", self.created_by),
            ("comment", self.comment),
            ("author", self.author),
        ):
            if text:
                value[key] = text
        if self.empty_layer:
            value["empty_layer"] = True
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> History:
        """Read the spec's form."""
        return cls(
            created_by=value.get("created_by") or "",
            created=value.get("created"),
            comment=value.get("comment") or "",
            author=value.get("author") or "",
            empty_layer=bool(value.get("empty_layer")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """A configuration.

    env is in order, names unique. exposed_ports are "8080/tcp". diff_ids are the layers' tar
    digests, bottom first. `more` and `more_config` hold fields that have no attribute here, of
    the document and of its "config" object.
    """

    platform: Platform = field(default_factory=Platform)
    created: str | None = EPOCH
    author: str = ""
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    more_config: Mapping[str, Any] = field(default_factory=dict)

    def with_layer(self, diff_id: Digest, history: History) -> ImageConfig:
        """This configuration with one layer more on top."""
        # A base without history stays without: entries must match layers one to one.
        past = self.history if self.history or not self.diff_ids else None
        return replace(
            self,
            diff_ids=(*self.diff_ids, diff_id),
            history=(*past, history) if past is not None else (),
        )

    def to_json(self) -> dict[str, Any]:
        """The spec's form."""
        config: dict[str, Any] = dict(self.more_config)
        for key, value in (
            ("User", self.user),
            ("ExposedPorts", {port: {} for port in self.exposed_ports}),
            ("Env", [f"{name}={value}" for name, value in self.env.items()]),
            ("Volumes", {path: {} for path in self.volumes}),
            ("WorkingDir", self.working_dir),
            ("Labels", dict(self.labels)),
            ("StopSignal", self.stop_signal),
        ):
            if value:
                config[key] = value
        for key, command in (
            ("Entrypoint", self.entrypoint),
            ("Cmd", self.cmd),
            ("Shell", self.shell),
        ):
            if command is not None:
                config[key] = list(command)
        if self.healthcheck is not None:
            config["Healthcheck"] = self.healthcheck.to_json()
        document: dict[str, Any] = dict(self.more)
        document |= {
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]},
        }
        if self.created is not None:
            document["created"] = self.created
        if self.author:
            document["author"] = self.author
        if self.history:
            document["history"] = [entry.to_json() for entry in self.history]
        return document

    def to_bytes(self) -> bytes:
        """The canonical bytes; their digest is the image ID."""
        return canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, where: str) -> ImageConfig:
        """Read a configuration; raises ImageError naming `where` when the spec is broken."""
        document = parse(data, where=where)
        try:
            return cls._from_json(document)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ImageError(
                f"the image's configuration breaks the specification ({error})", where=where
            ) from error

    @classmethod
    def _from_json(cls, document: dict[str, Any]) -> ImageConfig:
        rest = dict(document)
        rootfs = rest.pop("rootfs")
        if rootfs.get("type") != "layers":
            raise ValueError("rootfs isn't of type layers")
        config = dict(rest.pop("config", None) or {})
        env = dict(item.partition("=")[::2] for item in config.pop("Env", None) or ())
        healthcheck = config.pop("Healthcheck", None)
        return cls(
            platform=Platform(os=rest.pop("os"), architecture=rest.pop("architecture")),
            created=rest.pop("created", None),
            author=rest.pop("author", None) or "",
            user=config.pop("User", None) or "",
            env=env,
            entrypoint=_command(config.pop("Entrypoint", None)),
            cmd=_command(config.pop("Cmd", None)),
            working_dir=config.pop("WorkingDir", None) or "",
            exposed_ports=tuple(sorted(config.pop("ExposedPorts", None) or ())),
            volumes=tuple(sorted(config.pop("Volumes", None) or ())),
            labels=dict(config.pop("Labels", None) or {}),
            stop_signal=config.pop("StopSignal", None) or "",
            healthcheck=Healthcheck.from_json(healthcheck) if healthcheck else None,
            shell=_command(config.pop("Shell", None)),
            diff_ids=tuple(Digest.parse(text) for text in rootfs.get("diff_ids") or ()),
            history=tuple(History.from_json(item) for item in rest.pop("history", None) or ()),
            more=rest,
            more_config=config,
        )


def _command(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)
