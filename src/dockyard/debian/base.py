"""Which Debian packages make the base of an image, and what is added to it.

Rules:
- What is chosen depends on the archive; once chosen it is a list of hashes (DebianBase), and the
  same list gives the same files on every host (see `assembly`).
- A choice is remembered by its inputs: an unchanged build asks no mirror, and doesn't even import
  what would read its indexes. `upgrade` asks anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.debian.contents import (
    check_architecture,
    is_excluded,
    root_packages,
    suite_of,
)
from dockyard.debian.package import DebianPackage
from dockyard.errors import DebianError
from dockyard.fetch import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from dockyard.cache import Cache
    from dockyard.debian.mirror import Mirror
    from dockyard.debian.release import Keys
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


def resolve_base(
    *,
    python: str,
    architecture: str,
    shell: bool,
    fetcher: Fetcher,
    cache: Cache,
    mirror: Mirror,
    upgrade: bool = False,
    remember: bool = True,
    keys: Keys | None = None,
    now: datetime | None = None,
) -> DebianBase:
    """Choose the packages of a base with this Python ("3.11").

    upgrade: ask the mirror even where the answer is remembered; remember: for later; keys, now:
    instead of Debian's keys and the present time. Raises DebianError or FetchError.
    """
    suite = suite_of(python)
    check_architecture(architecture)
    names = root_packages(python, shell=shell)
    key = _key(LAYOUT, suite, architecture, names, _archives(mirror))
    record = None if upgrade else cache.read_record("debian-base", key)
    if record is not None:
        return DebianBase.from_record(record)
    from dockyard.debian.index import read_index
    from dockyard.debian.solve import solve

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
    if remember:
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
    from dockyard.debian.index import read_index
    from dockyard.debian.solve import solve

    index = read_index(
        base.suite, base.architecture, mirror=mirror, fetcher=fetcher, keys=keys, now=now
    )
    packages = solve(
        wanted, index, architecture=base.architecture, base=base.packages, excluded=is_excluded
    )
    cache.write_record("debian-apt", key, [package.to_record() for package in packages])
    return packages


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
