"""The files of a base and of what apt adds, assembled from Debian packages.

Rules:
- The files depend on the packages' hashes alone, never on the host.
- Nothing is run: what scripts would do is generated, or the package is refused (see scripts).
"""

from __future__ import annotations

import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.debian.contents import is_dropped
from dockyard.debian.control import parse_relations
from dockyard.debian.deb import Deb, read_deb
from dockyard.debian.generated import (
    APP_ID,
    APP_USER,
    alternative_links,
    busybox_links,
    ca_bundle,
    loader_path,
    root_entries,
    same_content,
    status_entries,
)
from dockyard.debian.ldcache import find_libraries, make_cache
from dockyard.debian.scripts import effects_of
from dockyard.errors import DebianError
from dockyard.files import FileEntry, file_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.debian.base import DebianBase
    from dockyard.debian.package import DebianPackage
    from dockyard.debian.scripts import Alternative


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFiles:
    """The files of a base and of what apt adds; not yet through `with_parents`.

    loader: the dynamic loader's path; notes: for the user, one line each.
    """

    base: tuple[FileEntry, ...]
    apt: tuple[FileEntry, ...]
    loader: str
    notes: tuple[str, ...]


def base_entries(
    base: DebianBase,
    debs: Mapping[str, Path],
    apt: Sequence[DebianPackage] = (),
    *,
    cache: Cache,
    user: str = APP_USER,
    uid: int = APP_ID,
) -> BaseFiles:
    """Return the files of `base`, and those that `apt` adds to it.

    debs: the packages' files by SHA-256, as `fetch_packages` returns them (those of the base are
    needed for apt as well: the loader's cache lists both). Raises DebianError naming a package
    that is damaged, unsafe, or needs its scripts.
    """
    below = _Tree()
    for deb in _read_all(base.packages, debs, cache):
        below.add(deb)
    for entry in root_entries(
        architecture=base.architecture, python=base.python, shell=base.shell, user=user, uid=uid
    ):
        below.put(entry, "")
    below.put(ca_bundle(below.debs["ca-certificates"]), "")
    if base.shell:
        for link in busybox_links(below.debs["busybox"], below.files):
            below.put(link, "")
    below.finish(base.architecture, {})
    above = _Tree(below)
    for deb in _read_all(apt, debs, cache):
        above.add(deb)
    if apt:
        above.finish(base.architecture, below.files)
    return BaseFiles(
        base=tuple(below.files.values()),
        apt=tuple(above.files.values()),
        loader=loader_path(base.architecture),
        notes=tuple(dict.fromkeys(above.notes)),
    )


class _Tree:
    """The files of several packages, laid over those of another tree."""

    def __init__(self, below: _Tree | None = None) -> None:
        self.files: dict[str, FileEntry] = {}
        self.debs: dict[str, Deb] = {}
        self.notes: list[str] = []
        self._owners: dict[str, str] = {}
        self._kept: dict[str, list[str]] = {}
        self._alternatives: list[Alternative] = []
        self._copies: list[tuple[str, str]] = []
        self._below = below

    def add(self, deb: Deb) -> None:
        """Lay down a package's files, and remember what its scripts would do."""
        effects = effects_of(deb)
        self.debs[deb.name] = deb
        self._alternatives += effects.alternatives
        self._copies += effects.copies
        self.notes += [f"{deb.name}: {note}" for note in effects.notes]
        for entry in deb.entries:
            # Folders come back as parents of what is in them, unless someone could write there.
            plain = entry.kind == "directory" and entry.mode == 0o755
            if not is_dropped(entry.path) and not (plain and entry.path.startswith("usr/share/")):
                self.put(entry, deb.name)
                self._kept.setdefault(deb.name, []).append(entry.path)

    def put(self, entry: FileEntry, owner: str) -> None:
        """Lay down one entry; raises DebianError where two packages own its path."""
        known = self.files.get(entry.path)
        if known is not None and not (known.kind == entry.kind == "directory"):
            first = self._owners.get(entry.path, "")
            is_folder = (known.kind == "directory", entry.kind == "directory")
            if is_folder == (False, True) and known.kind == "symlink" and owner:
                return  # what lies in the folder follows the link: see _through_links
            replaced = is_folder == (True, False) and entry.kind == "symlink"
            if owner == "" or replaced or self._replaces(owner, first):
                pass
            elif first == "" or self._replaces(first, owner) or same_content(known, entry):
                return
            else:
                raise DebianError(
                    f"the packages {first} and {owner} both hold {entry.path}",
                    hint="Ask for only one of them.",
                )
        self.files[entry.path] = entry
        self._owners[entry.path] = owner

    def _replaces(self, owner: str, other: str) -> bool:
        deb = self.debs.get(owner)
        if deb is None or not other:
            return False
        relations = parse_relations(deb.fields.get("replaces", ""), where=owner)
        return any(one.name == other for group in relations for one in group)

    def finish(self, architecture: str, below: Mapping[str, FileEntry]) -> None:
        """Add what depends on all packages: alternatives, the loader's cache, the status."""
        everything = {**below, **self.files}
        for source, path in self._copies:
            if source in self.files and path not in everything:
                copied = self.files[source]
                self.put(FileEntry(path=path, mode=copied.mode, source=copied.source), "")
        taken = {path: entry for path, entry in everything.items() if entry.target != "busybox"}
        for link in alternative_links(self._alternatives, taken):
            self.put(link, "")
        for name, deb in sorted(self.debs.items()):
            for entry in status_entries(deb, self._kept.get(name, ())):
                self.put(entry, "")
        self._through_links(below)
        everything = {**below, **self.files}
        libraries = find_libraries(everything.values(), architecture=architecture)
        cache = make_cache(libraries, architecture=architecture)
        self.put(file_entry("etc/ld.so.cache", cache), "")

    def _through_links(self, below: Mapping[str, FileEntry]) -> None:
        """Move what lies below a link to a folder to where the link leads.

        A layer that holds var/run/x would put a folder in the place of the link var/run.
        """
        links = {
            path: entry.target
            for path, entry in [*below.items(), *self.files.items()]
            if entry.kind == "symlink"
        }
        for path in list(self.files):
            moved = _resolved_parents(path, links)
            if moved != path:
                entry = self.files.pop(path)
                if entry.kind == "directory" or moved in self.files:
                    continue
                self.files[moved] = FileEntry(
                    path=moved,
                    kind=entry.kind,
                    mode=entry.mode,
                    source=entry.source,
                    target=entry.target,
                )
        for path, entry in list(self.files.items()):
            if entry.kind == "directory" and path in links and path in below:
                del self.files[path]


def _resolved_parents(path: str, links: Mapping[str, str]) -> str:
    for _ in range(10):
        parts = path.split("/")
        for length in range(1, len(parts)):
            parent = "/".join(parts[:length])
            if parent in links:
                aim = posixpath.join("/", posixpath.dirname(parent), links[parent])
                path = posixpath.normpath(posixpath.join(aim, *parts[length:])).lstrip("/")
                break
        else:
            break
    return path


def _read_all(
    packages: Sequence[DebianPackage], debs: Mapping[str, Path], cache: Cache
) -> Iterator[Deb]:
    """Yield the packages in their order; unpacked on all cores (liblzma lets others run)."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(lambda package: _read(package, debs, cache), packages)


def _read(package: DebianPackage, debs: Mapping[str, Path], cache: Cache) -> Deb:
    path = debs.get(package.sha256)
    if path is None:
        raise DebianError(
            f"the package {package.name} {package.version} wasn't fetched",
            hint="Build again with a network.",
        )
    deb = read_deb(path, sha256=package.sha256, cache=cache)
    if (deb.name, deb.version) != (package.name, package.version):
        raise DebianError(
            f"the file holds {deb.name} {deb.version}, not {package.name} {package.version}",
            where=str(path),
            hint="Run `dockyard lock --upgrade` to make the lock again.",
        )
    return deb
