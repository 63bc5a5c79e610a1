"""The base of an image, and packages on top of it, assembled from Debian's archive.

Rules:
- What is chosen depends on the archive; once chosen it is a list of hashes (DebianBase), and the
  same list gives the same files on every host.
- A choice is remembered by its inputs: an unchanged build asks no mirror. `upgrade` asks anew.
- Nothing is run: what scripts would do is generated, or the package is refused (see scripts).
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.debian.contents import (
    check_architecture,
    is_dropped,
    is_excluded,
    root_packages,
    suite_of,
)
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
from dockyard.debian.packages import DebianPackage, read_index
from dockyard.debian.scripts import effects_of
from dockyard.debian.solve import solve
from dockyard.errors import DebianError
from dockyard.fetch import redacted
from dockyard.files import FileEntry, file_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.debian.mirror import Mirror
    from dockyard.debian.release import Keys
    from dockyard.debian.scripts import Alternative
    from dockyard.fetch import Fetcher

LAYOUT = "1"
"""Part of every key: raised when the same packages give other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianBase:
    """A resolved base. glibc: its version, "2.36"; packages: sorted by name."""

    suite: str
    architecture: str
    python: str
    glibc: str
    shell: bool
    packages: tuple[DebianPackage, ...]

    def to_record(self) -> dict[str, Any]:
        """Return plain data that `from_record` reads."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "packages": [package.to_record() for package in self.packages],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DebianBase:
        """Read what `to_record` wrote; raises DebianError where it isn't that."""
        try:
            fields = {name: record[name] for name in cls.__slots__}
            fields["packages"] = tuple(map(DebianPackage.from_record, fields["packages"]))
        except (KeyError, TypeError) as error:
            raise DebianError(
                "the lock's Debian base can't be read",
                hint="Run `dockyard lock --upgrade` to make it again.",
            ) from error
        return cls(**fields)

    @property
    def key(self) -> str:
        """Name the files this base gives, for a cache: hexadecimal, from hashes only."""
        hashes = [package.sha256 for package in self.packages]
        return _key(LAYOUT, self.architecture, self.python, self.shell, hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFiles:
    """The files of a base and of what apt adds; not yet through `with_parents`.

    loader: the dynamic loader's path; notes: for the user, one line each.
    """

    base: tuple[FileEntry, ...]
    apt: tuple[FileEntry, ...]
    loader: str
    notes: tuple[str, ...]


def resolve_base(
    *,
    python: str,
    architecture: str,
    shell: bool,
    fetcher: Fetcher,
    cache: Cache,
    mirror: Mirror,
    upgrade: bool = False,
    keys: Keys | None = None,
    now: datetime | None = None,
) -> DebianBase:
    """Choose the packages of a base with this Python ("3.11").

    upgrade: ask the mirror even where the answer is remembered; keys, now: instead of Debian's
    keys and the present time. Raises DebianError or FetchError.
    """
    suite = suite_of(python)
    check_architecture(architecture)
    names = root_packages(python, shell=shell)
    key = _key(LAYOUT, suite, architecture, names, _archives(mirror))
    record = None if upgrade else cache.read_record("debian-base", key)
    if record is not None:
        return DebianBase.from_record(record)
    index = read_index(suite, architecture, mirror=mirror, fetcher=fetcher, keys=keys, now=now)
    packages = solve(names, index, architecture=architecture, excluded=is_excluded)
    base = DebianBase(
        suite=suite,
        architecture=architecture,
        python=python,
        glibc=_glibc(packages),
        shell=shell,
        packages=packages,
    )
    cache.write_record("debian-base", key, base.to_record())
    return base


def resolve_apt(
    names: Iterable[str],
    base: DebianBase,
    *,
    fetcher: Fetcher,
    cache: Cache,
    mirror: Mirror,
    upgrade: bool = False,
    keys: Keys | None = None,
    now: datetime | None = None,
) -> tuple[DebianPackage, ...]:
    """Choose `names` and what they need beyond `base`, sorted by name.

    Raises DebianError where a name doesn't exist, or doesn't fit the base's versions any more.
    """
    wanted = sorted(set(names))
    if not wanted:
        return ()
    key = _key(LAYOUT, base.to_record(), wanted, _archives(mirror))
    record = None if upgrade else cache.read_record("debian-apt", key)
    if record is not None:
        return tuple(map(DebianPackage.from_record, record))
    index = read_index(
        base.suite, base.architecture, mirror=mirror, fetcher=fetcher, keys=keys, now=now
    )
    packages = solve(
        wanted, index, architecture=base.architecture, base=base.packages, excluded=is_excluded
    )
    cache.write_record("debian-apt", key, [package.to_record() for package in packages])
    return packages


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


def _glibc(packages: Iterable[DebianPackage]) -> str:
    for package in packages:
        if package.name == "libc6":
            return package.version.rpartition(":")[2].partition("-")[0]
    raise DebianError(
        "the base has no C library", hint="The mirror's index is incomplete; use another."
    )


def _archives(mirror: Mirror) -> list[str]:
    return [redacted(url) for url in (mirror.main, mirror.security) if url]


def _key(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
