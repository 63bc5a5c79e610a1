"""The networks and volumes of Docker and Podman."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dockyard.engine import refusals
from dockyard.engine.docker.answers import read_network, read_volume
from dockyard.engine.docker.link import Linked, translated
from dockyard.engine.spec import MANAGED
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.engine.state import NamedVolume, Network


class DockerResources(Linked):
    """The networks and volumes of an engine."""

    def networks(self, *, label: str | None = MANAGED) -> tuple[Network, ...]:
        """Those with the label, by name."""
        filters: Any = {} if label is None else {"label": label}
        with translated("listing networks"):
            listed = self._api.networks(filters=filters)
        return tuple(sorted(map(read_network, listed), key=lambda network: network.name))

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
        body: dict[str, Any] = {
            "Name": name,
            # Docker would make a second one with the same name.
            "CheckDuplicate": True,
            "Driver": driver,
            "Internal": internal,
            # An overlay network takes containers that aren't a service's only if it says so.
            "Attachable": driver == "overlay",
            "Labels": {MANAGED: "true", **(labels or {})},
        }
        if subnet is not None:
            body["IPAM"] = {"Config": [{"Subnet": subnet}]}
        with translated(name):
            self._ask("POST", "/networks/create", name, json=body)
            return read_network(self._ask("GET", f"/networks/{quote(name, '')}", name).json())

    def remove_network(self, network: str) -> None:
        """Remove a network; one with containers on it is refused, an absent one is an error."""
        with translated(network):
            self._ask("DELETE", f"/networks/{quote(network, '')}", network)

    def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        """Put a container on a network, where it is found by its name and these."""
        body = {"Container": container, "EndpointConfig": {"Aliases": list(aliases)}}
        with translated(container):
            self._ask("POST", f"/networks/{quote(network, '')}/connect", container, json=body)

    def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network."""
        with translated(container):
            body = {"Container": container, "Force": False}
            self._ask("POST", f"/networks/{quote(network, '')}/disconnect", container, json=body)

    def volumes(self, *, label: str | None = MANAGED) -> tuple[NamedVolume, ...]:
        """Those with the label, by name."""
        filters: Any = {} if label is None else {"label": label}
        with translated("listing volumes"):
            listed: Any = self._api.volumes(filters=filters)
        found = map(read_volume, listed.get("Volumes") or ())
        return tuple(sorted(found, key=lambda volume: volume.name))

    def create_volume(self, name: str, *, labels: Mapping[str, str] | None = None) -> NamedVolume:
        """Make a volume; MANAGED is added. One that exists is an error."""
        with translated(name):
            # Docker would say that it has made the one that exists.
            if self._request("GET", f"/volumes/{quote(name, '')}", timeout=60).ok:
                raise EngineError(
                    refusals.VOLUME_TAKEN.format(name),
                    where=name,
                    hint=refusals.VOLUME_TAKEN_HINT.format(name),
                )
            body = {"Name": name, "Labels": {MANAGED: "true", **(labels or {})}}
            return read_volume(self._ask("POST", "/volumes/create", name, json=body).json())

    def remove_volume(self, volume: str) -> None:
        """Remove a volume and its data; one in use is refused, an absent one is an error."""
        with translated(volume):
            self._ask("DELETE", f"/volumes/{quote(volume, '')}", volume)
