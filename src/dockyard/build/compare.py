"""What changed between two images: packages, files, and how they start.

Rules:
- Packages come from the history that Dockyard writes, and for other images from what is installed
  (`*.dist-info` folders and Debian's status files), so any two images compare.
- A file is changed when kind, mode, link target or bytes differ. Bytes are read only where sizes
  are equal and the layers aren't the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.build.describe import packages_of
from dockyard.oci.tree import read_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.oci.image import Image
    from dockyard.oci.tree import ImageTree, TreeFile

_DIST = re.compile(r"(?:site|dist)-packages/([A-Za-z0-9_.]+)-([^/-]+)\.dist-info/METADATA\Z")

Changes = dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs; each map has the value before and after, None where there is none.

    files: sizes in bytes, as text; same_layers: how many layers the two share.
    """

    packages: Changes
    config: Changes
    env: Changes
    files: Changes
    same_layers: int
    layers: tuple[int, int]
    sizes: tuple[int, int]

    @property
    def nothing(self) -> bool:
        """Whether the two images are alike in all of this."""
        return not (self.packages or self.config or self.env or self.files)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        parts = {
            name: {key: {"before": old, "after": new} for key, (old, new) in part.items()}
            for name, part in (
                ("packages", self.packages),
                ("config", self.config),
                ("env", self.env),
                ("files", self.files),
            )
        }
        return {
            **parts,
            "same_layers": self.same_layers,
            "layers": {"before": self.layers[0], "after": self.layers[1]},
            "size": {"before": self.sizes[0], "after": self.sizes[1]},
        }


def compare_images(before: Image, after: Image) -> Difference:
    """Compare two images; streams the layers of both, once or twice."""
    old, new = read_tree(before), read_tree(after)
    shared = {layer.diff_id for layer in before.layers} & {layer.diff_id for layer in after.layers}
    return Difference(
        packages=changes(_packages(old), _packages(new)),
        config=changes(_settings(before), _settings(after)),
        env=changes(dict(before.config.env), dict(after.config.env)),
        files=_file_changes(old, new),
        same_layers=len(shared),
        layers=(len(before.layers), len(after.layers)),
        sizes=(before.size, after.size),
    )


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """The keys whose values differ, sorted."""
    return {
        key: (before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }


def _packages(tree: ImageTree) -> dict[str, str]:
    found = packages_of(layer.created_by for layer in tree.image.layers)
    if found:
        return found
    for path in tree.files:
        if match := _DIST.search(path):
            found[match[1].lower().replace("_", "-")] = match[2]
    status = tree.read("var/lib/dpkg/status", max_size=64 << 20) or b""
    name = ""
    for line in status.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(": ")
        if key == "Package":
            name = value
        elif key == "Version":
            found[name] = value
    return found


def _settings(image: Image) -> dict[str, str]:
    config = dict(image.config.to_json()["config"])
    config.pop("Env", None)
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": str(item) for name, item in value.items()}
        elif isinstance(value, list):
            flat[key] = " ".join(map(str, value))
        else:
            flat[key] = str(value)
    return flat


def _file_changes(old: ImageTree, new: ImageTree) -> Changes:
    changed: Changes = {}
    unsure: list[str] = []
    for path in sorted({*old.files, *new.files}):
        one, other = old.files.get(path), new.files.get(path)
        if one is None or other is None or _differ(one, other):
            changed[path] = (_said(one), _said(other))
        elif one.kind == "file" and not _same_layer(old, one, new, other):
            unsure.append(path)
    before, after = old.sha256(unsure), new.sha256(unsure)
    for path in unsure:
        if before.get(path) != after.get(path):
            changed[path] = (_said(old.files[path]), _said(new.files[path]))
    return dict(sorted(changed.items()))


def _differ(one: TreeFile, other: TreeFile) -> bool:
    if one.kind == other.kind == "directory":
        return one.mode != other.mode
    return (one.kind, one.mode, one.target, one.size) != (
        other.kind,
        other.mode,
        other.target,
        other.size,
    )


def _same_layer(old: ImageTree, one: TreeFile, new: ImageTree, other: TreeFile) -> bool:
    return old.image.layers[one.layer].diff_id == new.image.layers[other.layer].diff_id


def _said(file: TreeFile | None) -> str | None:
    if file is None:
        return None
    if file.kind == "symlink":
        return f"-> {file.target}"
    return file.kind if file.kind == "directory" else f"{file.size} bytes"
