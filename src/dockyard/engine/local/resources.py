"""The local engine's volumes; networks it has none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.engine import refusals
from dockyard.engine.local.containers import LocalContainers, has_label
from dockyard.engine.local.record import Bound, Record
from dockyard.engine.local.store import read_json, remove_tree, unwritable, write_json
from dockyard.engine.spec import MANAGED
from dockyard.engine.state import NamedVolume, UnsupportedError
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.engine.spec import ContainerSpec
    from dockyard.engine.state import Network


class LocalResources(LocalContainers):
    """Volumes in a folder of this machine."""

    def networks(self, *, label: str | None = MANAGED) -> tuple[Network, ...]:
        """None: containers are on the machine's own."""
        return ()

    def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        internal: bool = False,
        subnet: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        """Refused."""
        raise _no_networks()

    def remove_network(self, network: str) -> None:
        """Refused: there is none."""
        raise refusals.explain(refusals.NO_NETWORK.format(network), where=network)

    def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        """Refused."""
        raise _no_networks()

    def disconnect(self, network: str, container: str) -> None:
        """Refused."""
        raise _no_networks()

    def volumes(self, *, label: str | None = MANAGED) -> tuple[NamedVolume, ...]:
        """Those with the label, by name."""
        names = sorted(folder.name for folder in (self.store.root / "volumes").iterdir())
        found = [self._volume(name) for name in names]
        return tuple(v for v in found if v is not None and has_label(dict(v.labels), label))

    def create_volume(self, name: str, *, labels: Mapping[str, str] | None = None) -> NamedVolume:
        """Make a volume; MANAGED is added. One that exists is an error."""
        if self._volume(name) is not None:
            raise EngineError(
                refusals.VOLUME_TAKEN.format(name),
                where=name,
                hint=refusals.VOLUME_TAKEN_HINT.format(name),
            )
        return self._make(name, {MANAGED: "true", **(labels or {})})

    def remove_volume(self, volume: str) -> None:
        """Remove a volume and its data; one in use is refused, an absent one is an error."""
        if self._volume(volume) is None:
            raise refusals.explain(refusals.NO_VOLUME.format(volume), where=volume)
        path = str(self._folder(volume) / "_data")
        for record in Record.all(self.store):
            if any(bound.source == path for bound in record.binds):
                message = refusals.VOLUME_IN_USE.format(volume, record.id)
                raise refusals.explain(message, where=volume)
        remove_tree(self._folder(volume))

    def place_volumes(self, spec: ContainerSpec, number: str) -> tuple[Bound, ...]:
        """Where the specification's volumes are; named ones are made now if they aren't there."""
        placed: list[Bound] = []
        for volume in spec.volumes:
            if volume.kind == "bind":
                if not Path(volume.source).exists():
                    missing = f"bind source path does not exist: {volume.source}"
                    raise refusals.explain(missing, where=spec.image)
                source = volume.source
            elif volume.source:
                if self._volume(volume.source) is None:
                    self._make(volume.source, {})
                source = str(self._folder(volume.source) / "_data")
            else:
                # Anonymous: it goes with its container.
                folder = self.store.root / "containers" / number / "volumes"
                folder = folder / str(len(placed))
                folder.mkdir(parents=True)
                source = str(folder)
            placed.append(
                Bound(
                    source=source,
                    target=volume.target,
                    read_only=volume.read_only,
                    copy_up=volume.kind == "volume" and "nocopy" not in volume.options,
                )
            )
        return tuple(placed)

    def _folder(self, name: str) -> Path:
        return self.store.root / "volumes" / name

    def _volume(self, name: str) -> NamedVolume | None:
        value = read_json(self._folder(name) / "labels.json")
        if value is None:
            return None
        return NamedVolume(
            name=name,
            path=str(self._folder(name) / "_data"),
            labels=value["labels"],
            created=value["created"],
        )

    def _make(self, name: str, labels: Mapping[str, str]) -> NamedVolume:
        folder = self._folder(name)
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        try:
            (folder / "_data").mkdir(parents=True, exist_ok=True)
            # As root a container's user isn't the folder's owner.
            (folder / "_data").chmod(0o1777)
        except OSError as error:
            raise unwritable(error, folder) from error
        write_json(folder / "labels.json", {"labels": dict(labels), "created": created})
        return NamedVolume(
            name=name, path=str(folder / "_data"), labels=dict(labels), created=created
        )


def _no_networks() -> UnsupportedError:
    return UnsupportedError(
        "the local engine has no networks: its containers are on this machine's own",
        hint="Use Docker or Podman for containers that find each other by name.",
    )
