"""Sums over an image's files: by layer, kind, package and folder, and what could go.

Rules: sizes are of unpacked files, in bytes; a layer's size as stored stands beside. Each byte
that could go is counted once: a deleted cache is deleted, not a cache too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.layers.kinds import SPARE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockyard.layers.read import Contents, Held
    from dockyard.oci.image import Image

_SHARE = 0.02  # Folders below that share of the image aren't worth a line.
_MOST = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A name, its bytes and its number of files."""

    name: str
    size: int
    files: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"name": self.name, "size": self.size, "files": self.files}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeight:
    """A layer: what made it, its bytes unpacked and as stored, and those that later ones hide.

    kinds: its largest kinds first.
    """

    number: int
    made_by: str
    size: int
    stored: int
    hidden: int
    kinds: tuple[Sum, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "number": self.number,
            "made_by": self.made_by,
            "size": self.size,
            "stored": self.stored,
            "hidden": self.hidden,
            "kinds": [kind.to_json() for kind in self.kinds],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Spare:
    """What could go: a kind, its bytes and files, and how to be without."""

    name: str
    size: int
    files: int
    advice: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"name": self.name, "size": self.size, "files": self.files, "advice": self.advice}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What fills an image. size: bytes of all files, hidden ones too; spare: what could go."""

    size: int
    stored: int
    files: int
    layers: tuple[LayerWeight, ...]
    kinds: tuple[Sum, ...]
    packages: tuple[Sum, ...]
    folders: tuple[Sum, ...]
    spare: tuple[Spare, ...]

    @property
    def spare_size(self) -> int:
        """Bytes that could go."""
        return sum(item.size for item in self.spare)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; sizes in bytes."""
        return {
            "size": self.size,
            "stored": self.stored,
            "files": self.files,
            "layers": [layer.to_json() for layer in self.layers],
            "kinds": [kind.to_json() for kind in self.kinds],
            "packages": [package.to_json() for package in self.packages],
            "folders": [folder.to_json() for folder in self.folders],
            "spare": {
                "size": self.spare_size,
                "share": round(self.spare_size / self.size, 4) if self.size else 0,
                "parts": [item.to_json() for item in self.spare],
            },
        }


def weigh(image: Image, contents: Contents) -> Weights:
    """Sum up an image's contents."""
    held = contents.held
    by_layer: dict[int, list[Held]] = {number: [] for number in range(len(image.layers))}
    for item in held:
        by_layer[item.layer].append(item)
    layers = tuple(
        LayerWeight(
            number=number + 1,
            made_by=layer.created_by,
            size=sum(item.size for item in by_layer[number]),
            stored=layer.descriptor.size,
            hidden=sum(
                item.size for item in by_layer[number] if item.state in ("deleted", "replaced")
            ),
            kinds=_sums((item.kind, item) for item in by_layer[number]),
        )
        for number, layer in enumerate(image.layers)
    )
    return Weights(
        size=sum(item.size for item in held),
        stored=image.size,
        files=len(held),
        layers=layers,
        kinds=_sums((item.kind, item) for item in held),
        packages=_sums((item.package, item) for item in held if item.package),
        folders=_folders(held),
        spare=_spare(held),
    )


def spare_kind(item: Held) -> str:
    """Why a file could go; "" when it couldn't."""
    if item.state in ("deleted", "replaced"):
        return "deleted or replaced"
    if item.state == "duplicate":
        return "duplicates"
    return item.kind if item.kind in SPARE else ""


def _spare(held: Iterable[Held]) -> tuple[Spare, ...]:
    sums = _sums((spare_kind(item), item) for item in held if spare_kind(item))
    return tuple(
        Spare(name=item.name, size=item.size, files=item.files, advice=SPARE[item.name])
        for item in sums
    )


def _sums(named: Iterable[tuple[str, Held]]) -> tuple[Sum, ...]:
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for name, item in named:
        sizes[name] += item.size
        files[name] += 1
    return tuple(
        Sum(name=name, size=size, files=files[name])
        for name, size in sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def _folders(held: Iterable[Held]) -> tuple[Sum, ...]:
    """The large folders; one whose bytes are nearly all in one folder below gives way to that."""
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    total = 0
    for item in held:
        total += item.size
        path = item.path
        while "/" in path:
            path = path.rpartition("/")[0]
            sizes[path] += item.size
            files[path] += 1
    largest: dict[str, int] = {}
    for path, size in sizes.items():
        parent = path.rpartition("/")[0]
        largest[parent] = max(largest.get(parent, 0), size)
    chosen = [
        Sum(name="/" + path, size=size, files=files[path])
        for path, size in sizes.items()
        if size >= _SHARE * total and size and largest.get(path, 0) < 0.9 * size
    ]
    return tuple(sorted(chosen, key=lambda item: (-item.size, item.name))[:_MOST])
