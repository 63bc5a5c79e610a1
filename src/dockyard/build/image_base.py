"""Another image as a base: its Pythons, its C library, and its Python on the host's disk.

Rules:
- All of it is read from the layers, merged as a container sees them; nothing of the image is run
  but, for bytecode, its own interpreter.
- What was read is kept in the cache under the image's digest: a warm build reads no layer.
- Of an image only what its Python needs is unpacked: the interpreter, its standard library, the
  shared libraries in the usual folders. Nothing is written through a symbolic link.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.build.base_packages import BasePackages, read_packages
from dockyard.build.store import layer_key
from dockyard.build.unpack import unpacked_by
from dockyard.errors import BuildError
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dockyard.build.layer_index import LayerIndex
    from dockyard.cache import Cache
    from dockyard.oci.image import Image
    from dockyard.oci.tree import ImageTree
    from dockyard.progress import Reporter

_RECORD = "image-base"
_VERSION = 2  # of what is read; part of the key
_LIBC = re.compile(rb"GNU C Library [^\n]*? version (\d+\.\d+)")
_LIBC_PATH = re.compile(r"(?:usr/)?lib(?:64)?/(?:[^/]+-linux-gnu/)?libc\.so\.6")
_INTERPRETER = re.compile(r"((?:usr/local|usr|opt(?:/[^/]+){1,3})/bin/)python(3\.\d+)")
_FOLDER = r"(?:usr/(?:local/)?)?(?:bin|lib|lib64)(?:/[^/]+-linux-(?:gnu|musl))?"
_LIBRARY = re.compile(rf"{_FOLDER}/[^/]+\.so[^/]*")
_FOLDERS = re.compile(_FOLDER)
_NOT_NEEDED = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImageFacts:
    """What a build asks of a base image.

    pythons: minor version to the interpreter's path; packages: minor version to what that Python
    has; glibc: "2.36", None without a GNU C library.
    """

    pythons: Mapping[str, str]
    packages: Mapping[str, BasePackages]
    glibc: str | None

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pythons": dict(self.pythons),
            "packages": {minor: found.to_record() for minor, found in self.packages.items()},
            "glibc": self.glibc,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BaseImageFacts:
        """Read what `to_record` gave."""
        packages = record["packages"]
        return cls(
            pythons=record["pythons"],
            packages={minor: BasePackages.from_record(packages[minor]) for minor in packages},
            glibc=record["glibc"],
        )


def facts_key(image: Image) -> str:
    """Under what the image's facts are kept: its digest, and how they are read."""
    return layer_key(_RECORD, version=_VERSION, image=str(image.digest))


def read_base(
    image: Image, *, cache: Cache, reporter: Reporter, index: LayerIndex | None = None
) -> BaseImageFacts:
    """Look into the image, once: the answer is kept, in the registry's index as well."""
    key = facts_key(image)
    known: Any = cache.read_record(_RECORD, key)
    if known is not None:
        return BaseImageFacts.from_record(known)
    if index is not None and (facts := _told(index.base_facts(key))) is not None:
        cache.write_record(_RECORD, key, facts.to_record())
        return facts
    facts = _read(image, cache, reporter)
    cache.write_record(_RECORD, key, facts.to_record())
    if index is not None:
        index.add_base_facts(key, json.dumps(facts.to_record(), sort_keys=True).encode())
    return facts


def _told(data: bytes | None) -> BaseImageFacts | None:
    """What another machine found out; None where it can't be understood."""
    try:
        return BaseImageFacts.from_record(json.loads(data)) if data is not None else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _read(image: Image, cache: Cache, reporter: Reporter) -> BaseImageFacts:
    from dockyard.oci.tree import read_tree

    image = _at_hand(image, cache, reporter)
    with reporter.task("Looking into the base"):
        tree = read_tree(image)
        pythons = _pythons(tree.files)
        return BaseImageFacts(
            pythons=pythons,
            packages={minor: read_packages(tree, path) for minor, path in pythons.items()},
            glibc=_glibc(tree),
        )


def _at_hand(image: Image, cache: Cache, reporter: Reporter) -> Image:
    """The image with its layers on the disk: each is read more than once."""
    from dockyard.oci.registry.pull import pull_layers

    return pull_layers(image, cache, reporter=reporter)


def _pythons(files: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for path in files:
        match = _INTERPRETER.fullmatch(path)
        # The Python of a virtual environment is another one's.
        if match and posixpath.normpath(f"{match[1]}/../pyvenv.cfg") not in files:
            found.setdefault(match[2], []).append(path)
    return {minor: min(paths, key=_rank) for minor, paths in sorted(found.items())}


def _rank(path: str) -> tuple[bool, bool, str]:
    """What was added to a distribution goes before its own, and that before what is apart."""
    return (not path.startswith("usr/local/"), path.startswith("opt/"), path)


def _glibc(tree: ImageTree) -> str | None:
    for path in tree.files:
        if _LIBC_PATH.fullmatch(path):
            data = tree.read(path, max_size=16 << 20)
            match = _LIBC.search(data) if data is not None else None
            if match is not None:
                return match[1].decode()
    return None


def unpacked_python(
    image: Image, interpreter: str, *, cache: Cache, reporter: Reporter = SILENT
) -> Path:
    """The folder in `cache` with what the image's Python needs, unpacked now if it isn't there.

    interpreter: its path in the image. Raises ImageError when a layer is damaged, BuildError when
    the folder can't be written.
    """
    return unpacked_by(
        f"python of image {image.digest} {interpreter}",
        lambda root: _unpack(_at_hand(image, cache, reporter), interpreter, root),
        cache=cache,
    )


def _unpack(image: Image, interpreter: str, root: Path) -> None:
    from dockyard.oci.tree import read_tree

    tree = read_tree(image)
    links: list[tuple[Path, str]] = []
    # Which files each layer gives: path there to the paths here, hard links among them.
    wanted: list[dict[str, list[str]]] = [{} for _ in image.layers]
    for path, entry in tree.files.items():
        if not _is_needed(path, interpreter):
            continue
        if entry.kind == "symlink":
            links.append((root / path, entry.target))
            continue
        found = entry
        while found.kind == "hardlink" and found.target in tree.files:
            found = tree.files[found.target]
        if found.kind == "file":
            wanted[found.layer].setdefault(found.path, []).append(path)
    for layer, names in zip(image.layers, wanted, strict=True):
        if names:
            _write_files(layer, names, root)
    # Last, so that no file is ever written through one.
    for place, target in links:
        if not place.exists() and not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)


def _is_needed(path: str, interpreter: str) -> bool:
    folder, name = posixpath.split(interpreter)
    home = posixpath.dirname(folder)
    library = f"{home}/lib/{name}/"
    if path.startswith(library):
        return not _NOT_NEEDED.intersection(path.removeprefix(library).split("/"))
    if path.startswith(f"{folder}/python"):
        return True
    shared = path.startswith(f"{home}/lib/lib") and "/" not in path.removeprefix(f"{home}/lib/")
    return shared or bool(_LIBRARY.fullmatch(path) or _FOLDERS.fullmatch(path))


def _write_files(layer: Any, names: Mapping[str, list[str]], root: Path) -> None:
    from dockyard.oci.tree import clean_path
    from dockyard.oci.unpack import open_tar, tar_chunks

    with open_tar(iter(tar_chunks(layer)), where=str(layer.descriptor.digest)) as archive:
        for member in archive:
            places = names.get(clean_path(member.name))
            file = archive.extractfile(member) if places and member.isfile() else None
            if file is None or places is None:
                continue
            # The last entry of a path in a layer is the one that counts.
            data = file.read()
            for place in places:
                target = root / place
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                target.chmod(0o755 if member.mode & 0o111 else 0o644)


def need_glibc(facts: BaseImageFacts) -> str:
    """The C library's version; raises BuildError without a GNU C library."""
    if facts.glibc is None:
        raise BuildError(
            "the base has no GNU C library, which wheels for Linux need",
            where="`base`",
            hint="Use a base made from Debian, Ubuntu, or a distribution like them.",
        )
    return facts.glibc
