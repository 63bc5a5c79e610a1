"""Which registries have mirrors, and with which plain HTTP is allowed: what the user has set.

Read, later ones in addition to earlier ones:

    /etc/containers/registries.conf and its .d/      containers-registries.conf(5), TOML
    $XDG_CONFIG_HOME/containers/registries.conf …    the user's own, which replaces the system's
    /etc/docker/daemon.json                          registry-mirrors (of docker.io) and
                                                     insecure-registries
    DOCKYARD_REGISTRY_MIRRORS                        "docker.io=mirror.example/hub,…"; tried first
    DOCKYARD_INSECURE_REGISTRIES                     "registry.lan:5000,…"

Rules:
- A mirror is for reading only, and is tried before the registry itself, in the order given.
- What names a part of a registry ("docker.io/library") holds for that part; the longest wins.
- A file that can't be understood is an error: half a list of mirrors would be a surprise.
"""

from __future__ import annotations

import ipaddress
import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dockyard.errors import ConfigError
from dockyard.oci.reference import DEFAULT_DOMAIN
from dockyard.oci.registry.credentials import config_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a prefix of names lies: host[:port][/path]; insecure allows HTTP and any certificate.

    by_digest_only: a mirror that is asked only for what has a digest.
    """

    location: str
    insecure: bool = False
    by_digest_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for the repositories whose names begin with `prefix`."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """The rules by prefix, and hosts for which plain HTTP is allowed wherever they appear."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    insecure: frozenset[str] = frozenset()

    def rule(self, domain: str, path: str) -> Rule:
        """What holds for a repository."""
        name = f"{domain}/{path}" if path else domain
        parts = name.split("/")
        for count in range(len(parts), 0, -1):
            if (found := self.rules.get("/".join(parts[:count]))) is not None:
                return found
        hosts = domain.split(".")
        for count in range(1, len(hosts)):
            if (found := self.rules.get("*." + ".".join(hosts[count:]))) is not None:
                return replace(found, prefix=domain, location=domain)
        return Rule(prefix=domain, location=domain)

    def places(self, domain: str, path: str) -> tuple[list[Place], Place]:
        """The mirrors of a repository, and where it is itself; each location is host/path."""
        rule = self.rule(domain, path)
        name = f"{domain}/{path}" if path else domain
        rest = name.removeprefix(rule.prefix)
        own = self._placed(Place(location=rule.location, insecure=rule.insecure), rest)
        return [self._placed(mirror, rest) for mirror in rule.mirrors], own

    def _placed(self, place: Place, rest: str) -> Place:
        host = place.location.partition("/")[0]
        return replace(
            place,
            location=place.location.rstrip("/") + rest,
            insecure=place.insecure or self._is_insecure(host),
        )

    def _is_insecure(self, host: str) -> bool:
        """Whether the host is named, or its address lies in a network that is (10.0.0.0/8)."""
        if host in self.insecure:
            return True
        networks = [name for name in self.insecure if "/" in name]
        try:
            address = (
                ipaddress.ip_address(urlsplit(f"//{host}").hostname or "") if networks else None
            )
            return address is not None and any(
                address in ipaddress.ip_network(name, strict=False) for name in networks
            )
        except ValueError:
            return False


def read_settings(
    environment: Mapping[str, str], *, root: Path = Path("/"), insecure: Iterable[str] = ()
) -> RegistrySettings:
    """Read what the user and this machine have; insecure: hosts that the command line names."""
    rules: dict[str, Rule] = {}
    plain = set(insecure)
    user = config_home(environment) / "containers"
    folder = user if (user / "registries.conf").exists() else root / "etc/containers"
    for file in _conf_files(folder, environment):
        for rule in _read_conf(file):
            rules[rule.prefix] = rule
    hub, hosts = _read_daemon(root / "etc/docker/daemon.json")
    plain |= hosts
    if hub:
        _add_mirrors(rules, DEFAULT_DOMAIN, hub)
    for name, place in _listed_mirrors(environment.get("DOCKYARD_REGISTRY_MIRRORS", "")):
        _add_mirrors(rules, name, [place])
    plain |= _words(environment.get("DOCKYARD_INSECURE_REGISTRIES", ""))
    return RegistrySettings(rules=rules, insecure=frozenset(plain))


def _conf_files(folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    if named := environment.get("CONTAINERS_REGISTRIES_CONF"):
        yield Path(named)
        return
    if (main := folder / "registries.conf").exists():
        yield main
    if (more := folder / "registries.conf.d").is_dir():
        yield from sorted(more.glob("*.conf"))


def _read_conf(file: Path) -> Iterator[Rule]:
    try:
        document = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"the file can't be read: {error.strerror}", where=str(file)) from error
    except ValueError as error:
        raise ConfigError(f"the file isn't valid TOML: {error}", where=str(file)) from error
    try:
        for entry in document.get("registry") or ():
            prefix = entry.get("prefix") or entry["location"]
            yield Rule(
                prefix=prefix.rstrip("/"),
                location=(entry.get("location") or prefix).rstrip("/"),
                insecure=bool(entry.get("insecure")),
                blocked=bool(entry.get("blocked")),
                mirrors=tuple(_conf_mirrors(entry)),
            )
    except (KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            "a [[registry]] isn't as containers-registries.conf(5) has it", where=str(file)
        ) from error


def _conf_mirrors(entry: Mapping[str, Any]) -> Iterator[Place]:
    for mirror in entry.get("mirror") or ():
        which = mirror.get("pull-from-mirror") or "all"
        if which != "tag-only":
            yield Place(
                location=mirror["location"],
                insecure=bool(mirror.get("insecure")),
                by_digest_only=which == "digest-only" or bool(entry.get("mirror-by-digest-only")),
            )


def _read_daemon(file: Path) -> tuple[list[Place], set[str]]:
    """Docker Hub's mirrors and the insecure registries of Docker's own configuration."""
    try:
        document = json.loads(file.read_bytes() or b"{}")
        mirrors = [str(url) for url in document.get("registry-mirrors") or ()]
        hosts = {str(host) for host in document.get("insecure-registries") or ()}
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return [], set()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"the file can't be understood: {error}", where=str(file)) from error
    return [_from_url(url) for url in mirrors], hosts


def _from_url(text: str) -> Place:
    """A mirror written as a URL or as host[/path]."""
    scheme, slashes, rest = text.partition("://")
    return Place(location=(rest if slashes else text).rstrip("/"), insecure=scheme == "http")


def _listed_mirrors(text: str) -> Iterator[tuple[str, Place]]:
    for item in sorted(_words(text), key=text.index):
        name, equals, location = item.partition("=")
        if not equals or not name or not location:
            raise ConfigError(
                f"{item!r} names no mirror",
                where="DOCKYARD_REGISTRY_MIRRORS",
                hint="Write REGISTRY=MIRROR, as in docker.io=mirror.example/hub.",
            )
        yield name, _from_url(location)


def _add_mirrors(rules: dict[str, Rule], prefix: str, mirrors: list[Place]) -> None:
    rule = rules.get(prefix) or Rule(prefix=prefix, location=prefix)
    rules[prefix] = replace(rule, mirrors=(*mirrors, *rule.mirrors))


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",") if word.strip()}
