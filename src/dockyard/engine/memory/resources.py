"""The networks and volumes of the engine in memory."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from dockyard.engine import refusals
from dockyard.engine.memory.store import Store
from dockyard.engine.spec import MANAGED
from dockyard.engine.state import NamedVolume, Network
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MemoryResources(Store):
    """The networks and volumes of an engine."""

    def networks(self, *, label: str | None = MANAGED) -> tuple[Network, ...]:
        """Those with the label, by name."""
        with self._changed:
            found = [
                replace(network, containers=tuple(self._members[network.name]))
                for network in self._networks.values()
                if has_label(network.labels, label)
            ]
        return tuple(sorted(found, key=lambda network: network.name))

    def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        internal: bool = False,
        subnet: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network, on which containers find each other by name; MANAGED is added."""
        with self._changed:
            if name in self._networks:
                raise refusals.explain(refusals.NETWORK_TAKEN.format(name), where=name)
            network = Network(
                id=secrets.token_hex(32),
                name=name,
                driver=driver,
                internal=internal,
                subnets=(subnet or "10.0.0.0/16",),
                labels={MANAGED: "true", **(labels or {})},
            )
            self._networks[name] = network
            self._members[name] = {}
            return network

    def remove_network(self, network: str) -> None:
        """Remove a network; one with containers on it is refused, an absent one is an error."""
        with self._changed:
            name = self._need_network(network)
            if self._members[name]:
                raise refusals.explain(refusals.NETWORK_IN_USE.format(name), where=network)
            del self._networks[name], self._members[name]

    def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        """Put a container on a network, where it is found by its name and these."""
        with self._changed:
            found = self.need_container(container)
            self.join(self._need_network(network), found, tuple(aliases))

    def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network."""
        with self._changed:
            name, found = self._need_network(network), self.need_container(container)
            if self._members[name].pop(found.id, None) is None:
                message = f"container {found.name} is not connected to network {name}"
                raise refusals.explain(message, where=container)

    def volumes(self, *, label: str | None = MANAGED) -> tuple[NamedVolume, ...]:
        """Those with the label, by name."""
        with self._changed:
            found = [v for v in self._volumes.values() if has_label(v.labels, label)]
        return tuple(sorted(found, key=lambda volume: volume.name))

    def create_volume(self, name: str, *, labels: Mapping[str, str] | None = None) -> NamedVolume:
        """Make a volume; MANAGED is added. One that exists is an error."""
        with self._changed:
            if name in self._volumes:
                raise EngineError(
                    refusals.VOLUME_TAKEN.format(name),
                    where=name,
                    hint=refusals.VOLUME_TAKEN_HINT.format(name),
                )
            volume = NamedVolume(name=name, labels={MANAGED: "true", **(labels or {})})
            self._volumes[name], self._contents[name] = volume, {}
            return volume

    def remove_volume(self, volume: str) -> None:
        """Remove a volume and its data; one in use is refused, an absent one is an error."""
        with self._changed:
            if volume not in self._volumes:
                raise refusals.explain(refusals.NO_VOLUME.format(volume), where=volume)
            users = [
                container.id
                for container in self._containers.values()
                if any(mount.source == volume for mount in container.mounts)
            ]
            if users:
                message = refusals.VOLUME_IN_USE.format(volume, ", ".join(users))
                raise refusals.explain(message, where=volume)
            del self._volumes[volume], self._contents[volume]

    def _need_network(self, network: str) -> str:
        for name, found in self._networks.items():
            if network in (name, found.id):
                return name
        raise refusals.explain(refusals.NO_NETWORK.format(network), where=network)


def has_label(labels: Mapping[str, str], label: str | None) -> bool:
    """Whether a label "name" or "name=value" is among those; None matches all."""
    wanted, _, value = (label or "").partition("=")
    return label is None or (wanted in labels and (not value or labels[wanted] == value))
