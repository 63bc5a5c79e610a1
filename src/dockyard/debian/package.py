"""Packages that were chosen: what to fetch, and how a lock writes them down.

Rules: a package names no mirror, so that a lock serves everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dockyard.errors import DebianError, FetchError
from dockyard.fetch import Download, Fetcher, StatusError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dockyard.debian.mirror import Archive, Mirror


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianPackage:
    """One package of a resolved set; `because` names what needs it ("" where it was asked for).

    It names no mirror: filename is relative to the archive, so that a lock serves everywhere.
    """

    name: str
    version: str
    architecture: str
    archive: Archive
    filename: str
    sha256: str
    size: int
    source: str
    because: str = ""

    def download(self, mirror: Mirror) -> Download:
        """Return what to fetch, from this mirror."""
        archive = mirror.url(self.archive)
        # A plain path is used as it is; in a URL "%" and the like must be escaped.
        name = self.filename if archive.startswith("/") else quote(self.filename, safe="/+~")
        return Download(
            url=f"{archive}/{name}",
            sha256=self.sha256,
            size=self.size,
            title=f"{self.name} {self.version}",
        )

    def to_record(self) -> dict[str, Any]:
        """Return plain data that `from_record` reads."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DebianPackage:
        """Read what `to_record` wrote; raises DebianError where it isn't that."""
        try:
            fields = {name: record[name] for name in cls.__slots__}
        except (KeyError, TypeError) as error:
            raise _bad_record() from error
        kinds = {name: int if name == "size" else str for name in fields}
        if (
            not all(isinstance(fields[name], kind) for name, kind in kinds.items())
            or fields["archive"] not in ("main", "security")
            or ".." in fields["filename"].split("/")
        ):
            raise _bad_record()
        return cls(**fields)


def _bad_record() -> DebianError:
    return DebianError(
        "the lock's list of Debian packages can't be read",
        hint="Run `dockyard lock --upgrade` to make it again.",
    )


def fetch_packages(
    packages: Sequence[DebianPackage], *, mirror: Mirror, fetcher: Fetcher
) -> dict[str, Path]:
    """Return the packages' files by SHA-256, fetched and checked.

    Raises DebianError when the mirror no longer has one of them.
    """
    try:
        paths = fetcher.fetch([package.download(mirror) for package in packages])
    except FetchError as error:
        if not isinstance(error, StatusError) or error.status not in (404, 410):
            raise
        raise DebianError(
            "the mirror no longer has this version of a locked package",
            where=error.where,
            hint="Run `dockyard lock --upgrade` to take the present versions.",
        ) from error
    return {package.sha256: path for package, path in zip(packages, paths, strict=True)}
