"""The images of the engine in memory: archives are really read, their layers really checked."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from contextlib import closing
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from dockyard.engine.memory.store import Store, tagged
from dockyard.engine.state import HistoryLine, LocalImage
from dockyard.errors import EngineError
from dockyard.oci.chain import shared_depth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SMALL = 4 << 20  # Bytes; larger members of an archive are layers, not JSON.


class MemoryImages(Store):
    """The images of an engine."""

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a docker-archive tar, streamed; every layer's diff ID is checked."""
        file = _Reader(chunks)
        try:
            images = list(_read_archive(file, self.known_layers(), self._sizes))
            while file.read(1 << 20):
                pass  # What follows the archive's end is sent all the same.
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, KeyError, ValueError) as error:
            raise EngineError(
                f"the engine can't load the image: {error}", where=str(self.info)
            ) from error
        loaded: list[str] = []
        with self._changed:
            for image in images:
                self._images[image.id] = replace(image, references=())
                for name in image.references:
                    self._names[name] = image.id
                loaded.extend(image.references or (image.id,))
        return tuple(loaded)

    def images(self) -> tuple[LocalImage, ...]:
        """All images, newest first."""
        with self._changed:
            found = [self.image(number) for number in reversed(self._images)]
        return tuple(image for image in found if image is not None)

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image; empty where archives must hold every layer."""
        if not self.info.partial_loads:
            return frozenset()
        with self._changed:
            return frozenset(image.layers for image in self._images.values() if image.layers)

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The image's layers, bottom first: what made each, and its unpacked bytes."""
        with self._changed:
            image = self.need_image(reference)
            return tuple(
                HistoryLine(created_by="", size=self._sizes.get(layer, 0)) for layer in image.layers
            )

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""
        with self._changed:
            self._names[tagged(reference)] = self.need_image(image).id

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""
        with self._changed:
            image = self.image(reference)
            if image is None:
                return
            self._names.pop(tagged(reference), None)
            left = [name for name, owner in self._names.items() if owner == image.id]
            if not left or (force and reference == image.id):
                self._images.pop(image.id)
                for name in left:
                    del self._names[name]


class _Reader(io.RawIOBase):
    """Chunks as a file to read, for tarfile's stream mode."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


def _read_archive(
    file: _Reader, known: frozenset[tuple[str, ...]], sizes: dict[str, int]
) -> Iterator[LocalImage]:
    """Read a docker-archive: manifest.json names config and layers; the rest may lie anywhere.

    sizes: where the layers' unpacked bytes are noted.
    """
    documents: dict[str, bytes] = {}
    diff_ids: dict[str, str] = {}
    unpacked: dict[str, int] = {}
    with closing(tarfile.open(fileobj=file, mode="r|", bufsize=1 << 16)) as archive:
        for member in archive:
            body = archive.extractfile(member) if member.isreg() else None
            if body is None:
                continue
            data = body.read() if member.size <= _SMALL else b""
            documents[member.name] = data
            diff_ids[member.name], unpacked[member.name] = _diff_id(
                io.BytesIO(data) if data else body
            )
    manifest = json.loads(documents["manifest.json"])
    for entry in manifest:
        config = documents[entry["Config"]]
        value: Any = json.loads(config)
        layers = tuple(value["rootfs"]["diff_ids"])
        depth = shared_depth(layers, known)
        for number, (layer, name) in enumerate(zip(layers, entry["Layers"], strict=True)):
            if number >= depth and name not in diff_ids:
                raise ValueError(f"open {name}: no such file or directory")
            if number >= depth and diff_ids[name] != layer:
                raise ValueError(f"the layer {name} isn't {layer}")
            if number >= depth:
                sizes[layer] = unpacked[name]
        yield LocalImage(
            id=f"sha256:{hashlib.sha256(config).hexdigest()}",
            references=tuple(entry.get("RepoTags") or ()),
            layers=layers,
            architecture=value.get("architecture", "amd64"),
            os=value.get("os", "linux"),
            size=sum(sizes.get(layer, 0) for layer in layers),
            created=value.get("created", ""),
            config=value.get("config") or {},
        )


def _diff_id(body: IO[bytes]) -> tuple[str, int]:
    hashed, size = hashlib.sha256(), 0
    start = body.read(2)
    joined = _Joined(start, body)
    rest: _Joined | gzip.GzipFile = joined
    if start == b"\x1f\x8b":
        rest = gzip.GzipFile(fileobj=joined)
    while data := rest.read(1 << 16):
        hashed.update(data)
        size += len(data)
    return f"sha256:{hashed.hexdigest()}", size


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of a file."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        if self._start:
            taken, self._start = self._start, b""
            return taken
        return self._rest.read(size)
