"""What is newer than what a build takes: packages of the project, and the base.

Rules:
- Nothing is changed: neither the lock nor what the cache remembers for builds.
- Of a package there are two newer versions: the one that fits what the project asks for, which
  `dockyard lock --upgrade` takes, and the newest of all, for which a requirement must be changed.
- Of a base image: whether its tag names another image by now, and whether there is a tag like it
  with a higher version. Of a Debian base: which packages have a newer version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dockyard.build.foundation import DebianFoundation
from dockyard.errors import DockyardError, RegistryError
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockyard.build.foundation import ImageFoundation
    from dockyard.build.request import BuildRequest
    from dockyard.build.workshop import Workshop
    from dockyard.cache import Cache
    from dockyard.oci.platform import Platform
    from dockyard.oci.registry.api import Registries
    from dockyard.progress import Reporter
    from dockyard.wheels.lock import Lock
    from dockyard.wheels.resolve import ResolveRequest

_TAG = re.compile(r"(\D*)(\d+(?:\.\d+)*)(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer:
    """Something with a newer version. kind: "package", "base" or "base-package".

    fits: the newest that goes with what the project asks for, None where nothing newer does;
    newest: the newest of all, None where that isn't known.
    """

    kind: str
    name: str
    now: str
    fits: str | None
    newest: str | None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "kind": self.kind,
            "name": self.name,
            "now": self.now,
            "fits": self.fits,
            "newest": self.newest,
        }


def find_newer(
    request: BuildRequest,
    *,
    cache: Cache | None = None,
    registries: Registries | None = None,
    reporter: Reporter = SILENT,
) -> tuple[Newer, ...]:
    """What is newer, for the project's first platform; the base first, then packages by name."""
    from dockyard.build.inputs import begin, platforms_of
    from dockyard.build.workshop import open_workshop

    with open_workshop(request, cache, reporter, registries=registries) as shop:
        platform = platforms_of(request)[0]
        gathering, minors = begin(request, platform, shop)
        foundation, lock, _ = gathering.first_that_resolves(minors)
        if isinstance(foundation, DebianFoundation):
            base = _newer_debian(foundation, shop)
        else:
            base = _newer_image(foundation, platform, shop)
        if not lock.wheels and not lock.from_base:
            return tuple(base)
        asked = gathering.resolve_request(lock.python, foundation, locked=False)
        return (*base, *_newer_packages(lock, asked, shop))


def _newer_packages(lock: Lock, asked: ResolveRequest, shop: Workshop) -> list[Newer]:
    from dockyard.wheels.requirement import read_source
    from dockyard.wheels.resolve import resolve
    from dockyard.wheels.stale import loose_source

    now = _versions(lock)
    if asked.source.kind in ("uv.lock", "pylock.toml"):
        from dockyard.wheels.pylock import LockFile

        lock_file = LockFile(path=asked.source.path, document={})
        loose = loose_source(lock_file, asked.root)
        if loose is None:
            return []
        asked = replace(asked, source=loose)
    anew = replace(asked, upgrade=True)
    with shop.reporter.task("Asking for newer packages"):
        fits = _versions(resolve(anew, cache=shop.cache, remember=False))
        names = read_source(asked.source, extras=asked.extras, groups=asked.groups).names
        newest = _newest(sorted(names), anew, shop)
    found = []
    for name, version in sorted(now.items()):
        better = fits.get(name)
        best = newest.get(name)
        better = better if better is not None and _is_newer(better, version) else None
        best = best if best is not None and _is_newer(best, version) else None
        if better is not None or best is not None:
            found.append(
                Newer(kind="package", name=name, now=version, fits=better, newest=best or better)
            )
    return found


def _newest(names: list[str], anew: ResolveRequest, shop: Workshop) -> dict[str, str]:
    """The newest versions of what the project names, whatever versions it asks for."""
    from dockyard.wheels.requirement import DependencySource
    from dockyard.wheels.resolve import resolve

    if not names:
        return {}
    folder = shop.cache.root / "listed" / "newest"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "requirements.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    source = DependencySource(kind="requirements.txt", path=path)
    try:
        request = replace(anew, source=source, extras=(), groups=(), loose=None, provided=())
        return _versions(resolve(request, cache=shop.cache, remember=False))
    except DockyardError:
        return {}  # a project or URL that no index has: what fits is known all the same


def _versions(lock: Lock) -> dict[str, str]:
    found = {item.name: item.version for item in lock.from_base}
    found |= {source.name: source.version for source in lock.sources if source.version}
    return found | {wheel.name: wheel.version for wheel in lock.wheels}


def _is_newer(version: str, than: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version).public != Version(than).public and Version(version) > Version(than)
    except InvalidVersion:
        return version != than


def _newer_debian(foundation: DebianFoundation, shop: Workshop) -> list[Newer]:
    from dockyard.debian.base import resolve_base

    base = foundation.base
    with shop.reporter.task("Asking for newer Debian packages"):
        fresh = resolve_base(
            python=base.python,
            architecture=base.architecture,
            shell=base.shell,
            fetcher=shop.fetcher,
            cache=shop.cache,
            mirror=foundation.mirror,
            upgrade=True,
            remember=False,
        )
    versions = {package.name: package.version for package in fresh.packages}
    return [
        Newer(
            kind="base-package",
            name=package.name,
            now=package.version,
            fits=versions[package.name],
            newest=versions[package.name],
        )
        for package in base.packages
        if versions.get(package.name, package.version) != package.version
    ]


def _newer_image(foundation: ImageFoundation, platform: Platform, shop: Workshop) -> list[Newer]:
    from dockyard.build.base_source import base_reference
    from dockyard.oci.registry.pull import choose_platform

    reference = base_reference(foundation.name)
    if reference is None or reference.tag is None:
        return []
    repository = shop.registries.repository(reference)
    now = str(foundation.image.digest)
    name = replace(reference, digest=None).familiar()
    with shop.reporter.task(f"Asking for {name}"):
        root = repository.manifest(reference.tag)
        there = str(choose_platform(repository, root, platform, where=name).digest)
        try:
            newest = newest_tag(reference.tag, repository.tags())
        except RegistryError:
            newest = None  # not every registry lists tags for everybody
    moved = there if there != now else None
    if moved is None and newest is None:
        return []
    return [Newer(kind="base", name=name, now=now, fits=moved, newest=newest or moved)]


def newest_tag(tag: str, tags: Iterable[str]) -> str | None:
    """The tag like this one with the highest version: "3.12.7-slim" for "3.12.4-slim"; or None.

    Like it: the same words around the version, which has as many numbers.
    """
    mine = _parsed(tag)
    if mine is None:
        return None
    best = mine
    found = None
    for other in tags:
        parsed = _parsed(other)
        if parsed is None or (parsed[0], parsed[2]) != (mine[0], mine[2]):
            continue
        if len(parsed[1]) == len(mine[1]) and parsed[1] > best[1]:
            best, found = parsed, other
    return found


def _parsed(tag: str) -> tuple[str, tuple[int, ...], str] | None:
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    return match[1], tuple(int(part) for part in match[2].split(".")), match[3]
