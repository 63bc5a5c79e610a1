"""What an image is made of, read back from its history: layers, their origin, packages.

Rules:
- A layer that Dockyard made says what is in it in its history line ("dockyard wheel torch==2.13.0
  sha256:…"); `line_for` writes that line and `origin_of` reads it, here and nowhere else.
- Lines of other builders are shown as they are.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockyard.build.plan import LayerKind
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image

_PREFIX = "dockyard "


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a layer comes from.

    kind: a LayerKind, or "other" for layers that Dockyard didn't make; packages: name to version,
    of Python distributions ("wheel", "wheels") or Debian packages ("base", "apt").
    """

    kind: str
    title: str
    packages: Mapping[str, str]


def line_for(kind: LayerKind, packages: Iterable[tuple[str, str]] = (), *, note: str = "") -> str:
    """The history line of a layer; packages are names and versions."""
    words = [f"{name}=={version}" for name, version in packages]
    return " ".join([f"dockyard {kind}", *([note] if note else []), *words])


def origin_of(created_by: str) -> Origin:
    """Read a history line."""
    if not created_by.startswith(_PREFIX):
        return Origin(kind="other", title=" ".join(created_by.split()), packages={})
    kind, _, rest = created_by.removeprefix(_PREFIX).partition(" ")
    packages: dict[str, str] = {}
    notes: list[str] = []
    for word in rest.split():
        name, equals, version = word.partition("==")
        if equals:
            packages[name] = version
        elif not word.startswith("sha256:"):
            notes.append(word)
    return Origin(kind=kind, title=_title(kind, packages, " ".join(notes)), packages=packages)


def _title(kind: str, packages: Mapping[str, str], note: str) -> str:
    if kind == "wheel":
        return " ".join(f"{name} {version}" for name, version in packages.items())
    if kind == "wheels":
        return f"{len(packages)} small wheels"
    titles = {
        "base": f"base{f', {note}' if note else ''}",
        "apt": f"Debian packages: {', '.join(note.split()) or len(packages)}",
        "python": "Python environment",
        "server": "Dockyard's server",
        "bytecode": "bytecode of small wheels" if note.endswith(" small") else "bytecode",
        "model": "model files",
        "app": "application code",
    }
    return titles.get(kind, kind)


def layer_titles(image: Image) -> dict[Digest, str]:
    """What a user calls the layers that Dockyard made, by their blobs' digests; short."""
    titles = {}
    for layer in image.layers:
        origin = origin_of(layer.created_by)
        if origin.kind != "other":
            titles[layer.descriptor.digest] = textwrap.shorten(origin.title, 30, placeholder="…")
    return titles


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """One layer as `inspect` shows it; size: bytes, compressed or unpacked as the source has."""

    origin: Origin
    diff_id: str
    size: int
    shared_with: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "kind": self.origin.kind,
            "title": self.origin.title,
            "packages": dict(self.origin.packages),
            "diff_id": self.diff_id,
            "size": self.size,
            "shared_with": list(self.shared_with),
        }


def describe_layers(
    lines: Sequence[str],
    diff_ids: Sequence[str],
    sizes: Sequence[int],
    *,
    others: Mapping[str, Sequence[str]],
) -> tuple[LayerFacts, ...]:
    """Put a layer's history line, diff ID and size together, bottom first.

    others: the diff IDs of other images, by their names; a layer is shared with those that have it.
    """
    if len(lines) != len(diff_ids):
        lines = [""] * len(diff_ids)
    holders: dict[str, list[str]] = {}
    for name, chain in others.items():
        for diff_id in chain:
            holders.setdefault(diff_id, []).append(name)
    return tuple(
        LayerFacts(
            origin=origin_of(line),
            diff_id=diff_id,
            size=size,
            shared_with=tuple(sorted(holders.get(diff_id, ()))),
        )
        for line, diff_id, size in zip(lines, diff_ids, sizes, strict=True)
    )


def packages_of(lines: Iterable[str]) -> dict[str, str]:
    """All packages that the history lines name, with their versions."""
    found: dict[str, str] = {}
    for line in lines:
        found.update(origin_of(line).packages)
    return found
