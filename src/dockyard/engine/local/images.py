"""The local engine's images: archives are unpacked as they stream in, each layer once.

Rules: a layer's diff ID is computed from what was unpacked and must be the one that the config
names. A layer may be left out of an archive when it lies on a chain that the engine has, as with
Docker. Layers that no image and no container names are removed with the image that was the last.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

from dockyard.engine import refusals
from dockyard.engine.local.layers import unpack_layer
from dockyard.engine.local.record import Record
from dockyard.engine.local.store import LocalStore, read_json, remove_tree, unwritable
from dockyard.engine.state import HistoryLine, LocalImage, UnsupportedError
from dockyard.errors import EngineError, ImageError
from dockyard.oci.chain import shared_depth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_DOCUMENT = 4 << 20  # Bytes; larger members of an archive are layers, not JSON.
_MAGIC = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


class LocalImages:
    """Images in a folder of this machine."""

    def __init__(self, store: LocalStore | None = None) -> None:
        self.store = store or LocalStore()

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a docker-archive or OCI-layout tar, streamed; return the names or ids loaded."""
        file = _Reader(chunks)
        try:
            with self.store.using_layers(), self.store.temporary() as folder:
                loaded = self._load(file, folder)
                while file.read(1 << 20):
                    pass  # What follows the archive's end is sent all the same.
        except (tarfile.TarError, EOFError, KeyError, TypeError, ValueError, ImageError) as error:
            raise EngineError(
                f"the engine can't load the image: {error}", where="the local engine"
            ) from error
        except OSError as error:
            if file.failure is not None:
                raise file.failure from None
            raise unwritable(error, self.store.root) from error
        return loaded

    def image(self, reference: str) -> LocalImage | None:
        """The image with this name or id, or None."""
        names = self.store.read_names()
        number = names.get(_tagged(reference), reference).removeprefix("sha256:")
        if "/" in number or len(number) < 12:
            return None
        paths = sorted((self.store.root / "images").glob(f"{number}*.json"))
        return self._read(paths[0], names) if len(paths) == 1 else None

    def images(self) -> tuple[LocalImage, ...]:
        """All images, newest first."""
        names = self.store.read_names()
        paths = (self.store.root / "images").glob("*.json")
        newest = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        found = (self._read(path, names) for path in newest)
        return tuple(image for image in found if image is not None)

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image."""
        return frozenset(image.layers for image in self.images() if image.layers)

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The image's layers, bottom first: what made each, and its unpacked bytes."""
        image = self.need_image(reference)
        value = read_json(self._config_path(image.id)) or {}
        layers = iter(image.layers)
        lines = []
        for entry in value.get("history") or [{} for _ in image.layers]:
            layer = None if entry.get("empty_layer") else next(layers, None)
            size = 0 if layer is None else self.store.layer_size(layer)
            lines.append(HistoryLine(created_by=str(entry.get("created_by") or ""), size=size))
        return tuple(lines)

    def save(self, reference: str) -> Iterator[bytes]:
        """Refused: unpacked layers can't be packed to the same bytes again."""
        raise UnsupportedError(
            "the local engine keeps layers unpacked and can't give an image's bytes back",
            where=reference,
            hint="Write the image to a file when it is built: -o oci:DIR or -o archive:FILE.tar.",
        )

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""
        found = self.need_image(image)
        with self.store.names() as names:
            names[_tagged(reference)] = found.id

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""
        image = self.image(reference)
        if image is None:
            return
        with self.store.names() as names:
            by_id = _tagged(reference) not in names
            users = [r for r in Record.all(self.store) if r.image_id == image.id]
            gone = by_id or image.references in ((), (_tagged(reference),))
            if users and gone and not force:
                raise EngineError(
                    f"the image {reference} is used by the container {users[0].name}",
                    where="the local engine",
                    hint=f"Remove the container first: dockyard rm {users[0].name}",
                )
            if by_id and len(image.references) > 1 and not force:
                raise EngineError(
                    f"the image {reference} has several names: {', '.join(image.references)}",
                    where="the local engine",
                    hint="Remove it by a name, or all of them by force.",
                )
            names.pop(_tagged(reference), None)
            if by_id:
                for name in image.references:
                    names.pop(name, None)
            if image.id not in names.values():
                self._config_path(image.id).unlink(missing_ok=True)
        self.collect_layers()

    def need_image(self, reference: str) -> LocalImage:
        """The image; raises EngineError when there is none."""
        image = self.image(reference)
        if image is None:
            raise refusals.explain(refusals.NO_IMAGE.format(reference), where=reference)
        return image

    def collect_layers(self) -> None:
        """Remove layers that no image and no container needs, unless some are being used."""
        with self.store.removing_layers() as alone:
            if not alone:
                return
            needed = {layer for image in self.images() for layer in image.layers}
            needed |= {layer for record in Record.all(self.store) for layer in record.layers}
            for folder in (self.store.root / "layers").iterdir():
                if f"sha256:{folder.name}" not in needed:
                    (self.store.root / "l" / folder.name[:12]).unlink(missing_ok=True)
                    remove_tree(folder)
            self.store.sweep()

    def _load(self, file: _Reader, folder: Path) -> tuple[str, ...]:
        documents, unpacked = _read_members(file, folder)
        manifest = json.loads(documents["manifest.json"])
        known = self.known_layers()
        loaded: list[str] = []
        for entry in manifest:
            config = documents[posixpath.normpath(entry["Config"])]
            value: Any = json.loads(config)
            layers = [str(layer) for layer in value["rootfs"]["diff_ids"]]
            depth = shared_depth(layers, known)
            names = [posixpath.normpath(name) for name in entry["Layers"]]
            for number, (layer, name) in enumerate(zip(layers, names, strict=True)):
                found = unpacked.get(name)
                if found is None and (number >= depth or not self.store.has_layer(layer)):
                    raise ValueError(f"open {name}: no such file or directory")
                if found is not None and found[0] != layer:
                    raise ValueError(f"the layer {name} isn't {layer}")
            # All of an image's layers are sound before any is kept.
            for layer, name in zip(layers, names, strict=True):
                if name in unpacked and not self.store.has_layer(layer):
                    self.store.adopt_layer(unpacked[name][1], layer)
            loaded += self._register(config, [str(tag) for tag in entry.get("RepoTags") or ()])
        return tuple(loaded)

    def _register(self, config: bytes, tags: list[str]) -> list[str]:
        number = f"sha256:{hashlib.sha256(config).hexdigest()}"
        path = self._config_path(number)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(config)
        temporary.replace(path)
        with self.store.names() as names:
            names.update({_tagged(tag): number for tag in tags})
        return [_tagged(tag) for tag in tags] or [number]

    def _config_path(self, number: str) -> Path:
        return self.store.root / "images" / f"{number.removeprefix('sha256:')}.json"

    def _read(self, path: Path, names: dict[str, str]) -> LocalImage | None:
        value = read_json(path)
        if value is None:
            return None
        number = f"sha256:{path.stem}"
        layers = tuple(str(layer) for layer in value["rootfs"]["diff_ids"])
        return LocalImage(
            id=number,
            references=tuple(sorted(name for name, owner in names.items() if owner == number)),
            layers=layers,
            architecture=value.get("architecture") or "amd64",
            os=value.get("os") or "linux",
            size=sum(self.store.layer_size(layer) for layer in layers),
            created=value.get("created") or "",
            config=value.get("config") or {},
        )


def _read_members(
    file: _Reader, folder: Path
) -> tuple[dict[str, bytes], dict[str, tuple[str, Path]]]:
    """The archive's documents, and its layers: name -> (diff ID, where it is unpacked)."""
    documents: dict[str, bytes] = {}
    unpacked: dict[str, tuple[str, Path]] = {}
    links: dict[str, str] = {}
    with closing(tarfile.open(fileobj=file, mode="r|", bufsize=1 << 20)) as archive:
        for member in archive:
            name = posixpath.normpath(member.name)
            if member.issym() or member.islnk():
                base = posixpath.dirname(name) if member.issym() else ""
                links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
                continue
            body = archive.extractfile(member) if member.isreg() else None
            if body is None:
                continue
            start = body.read(512)
            if start.startswith(_MAGIC) or start[257:262] == b"ustar":
                place = folder / str(len(unpacked))
                place.mkdir()
                unpacked[name] = (unpack_layer(start, body, place), place)
            elif member.size <= _DOCUMENT:
                documents[name] = start + body.read()
    for name, target in links.items():
        if target in unpacked:
            unpacked[name] = unpacked[target]
    return documents, unpacked


def _tagged(reference: str) -> str:
    """The short form of a name, as Docker shows it, with its tag."""
    reference = reference.removeprefix("docker.io/").removeprefix("library/")
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


class _Reader(io.RawIOBase):
    """Chunks as a file to read; remembers what their maker raised."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.failure: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        while not self._rest:
            try:
                chunk = next(self._chunks, None)
            except OSError as error:
                self.failure = error
                raise
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)
