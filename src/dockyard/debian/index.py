"""Package indexes: which packages a suite has, from its signed Release down to each hash.

Rules:
- An index is used only when its SHA-256 is the one in the suite's signed Release.
- Only stanzas that are asked for are parsed: an index has 60,000 of them and a base needs 40.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dockyard.debian.control import Relation, parse_relations, parse_stanza
from dockyard.debian.mirror import Archive, Mirror
from dockyard.debian.package import DebianPackage
from dockyard.debian.release import Release, SuiteMissingError, read_release
from dockyard.errors import DebianError
from dockyard.fetch import Download, Fetcher, StatusError, local_path, redacted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from dockyard.debian.release import Keys

# Larger than any index of main so far (60 MB), small enough to refuse a bomb.
_LARGEST_INDEX = 400 << 20


@dataclass(frozen=True)
class Candidate:
    """One stanza of an index: a package that may be chosen."""

    archive: Archive
    stanza: str

    @cached_property
    def fields(self) -> dict[str, str]:
        """The stanza's fields, names lower-case."""
        return parse_stanza(self.stanza)

    @property
    def name(self) -> str:
        """The package's name."""
        return self._field("package")

    @property
    def version(self) -> str:
        """The package's version."""
        return self._field("version")

    def relations(self, field: str) -> tuple[tuple[Relation, ...], ...]:
        """Return the alternatives of a relationship field; empty where it is absent."""
        text = self.fields.get(field, "")
        return parse_relations(text, where=self.fields.get("package", "?")) if text else ()

    @cached_property
    def depends(self) -> tuple[tuple[Relation, ...], ...]:
        """Pre-Depends, then Depends."""
        return self.relations("pre-depends") + self.relations("depends")

    @cached_property
    def provides(self) -> tuple[Relation, ...]:
        """The virtual packages, some with a version."""
        return tuple(relation for group in self.relations("provides") for relation in group)

    def package(self, because: str) -> DebianPackage:
        """Return the package as it is kept in a lock."""
        filename = self._field("filename")
        sha256 = self._field("sha256")
        if filename.startswith("/") or ".." in filename.split("/") or len(sha256) != 64:
            raise self._broken("an unsafe file name or no SHA-256")
        try:
            size = int(self._field("size"))
        except ValueError as error:
            raise self._broken("no size") from error
        return DebianPackage(
            name=self.name,
            version=self.version,
            architecture=self._field("architecture"),
            archive=self.archive,
            filename=filename,
            sha256=sha256.lower(),
            size=size,
            source=self.fields.get("source", self.name),
            because=because,
        )

    def _field(self, name: str) -> str:
        try:
            return self.fields[name]
        except KeyError as error:
            raise self._broken(f"no {name}") from error

    def _broken(self, what: str) -> DebianError:
        return DebianError(
            f"an index entry has {what}",
            where=self.fields.get("package", "an index"),
            hint="The index is damaged; use another mirror.",
        )


class Index:
    """The packages of several indexes, found by name or by what they provide."""

    def __init__(self, parts: Sequence[tuple[Archive, bytes]]) -> None:
        self._stanzas: dict[bytes, list[tuple[Archive, bytes]]] = {}
        self._providers: dict[bytes, list[bytes]] = {}
        self._candidates: dict[str, tuple[Candidate, ...]] = {}
        for archive, text in parts:
            for stanza in text.split(b"\n\n"):
                if not stanza.startswith(b"Package: "):
                    continue
                name = stanza[9 : stanza.find(b"\n")].strip()
                self._stanzas.setdefault(name, []).append((archive, stanza))
                start = stanza.find(b"\nProvides: ")
                if start >= 0:
                    line = stanza[start + 11 : stanza.find(b"\n", start + 11)]
                    for item in line.split(b","):
                        words = item.split()
                        if words:
                            provided = words[0].partition(b":")[0]
                            self._providers.setdefault(provided, []).append(name)

    def named(self, name: str) -> tuple[Candidate, ...]:
        """Return the candidates of this very name, in no particular order."""
        found = self._candidates.get(name)
        if found is None:
            found = tuple(
                Candidate(archive, stanza.decode("utf-8", "replace"))
                for archive, stanza in self._stanzas.get(name.encode(), ())
            )
            self._candidates[name] = found
        return found

    def providers(self, name: str) -> list[str]:
        """Return the names of packages that provide the virtual package `name`, sorted."""
        return sorted({found.decode() for found in self._providers.get(name.encode(), ())})

    def near(self, name: str) -> list[str]:
        """Return names that `name` may have been meant for."""
        import difflib

        names = [found.decode("ascii", "replace") for found in self._stanzas]
        return difflib.get_close_matches(name, names, n=3, cutoff=0.75)


def read_index(
    suite: str,
    architecture: str,
    *,
    mirror: Mirror,
    fetcher: Fetcher,
    keys: Keys | None = None,
    now: datetime | None = None,
) -> Index:
    """Return what `suite` (a codename), its updates and its security archive offer.

    Raises DebianError when a signature, a date or a hash is wrong, FetchError when something
    can't be fetched.
    """
    parts: list[tuple[Archive, bytes]] = []
    wanted: list[tuple[Archive, str, bool]] = [("main", suite, True)]
    wanted.append(("main", f"{suite}-updates", False))
    if mirror.security is not None:
        wanted.append(("security", f"{suite}-security", True))
    for archive, name, required in wanted:
        try:
            release = read_release(mirror, archive, name, fetcher=fetcher, keys=keys, now=now)
        except SuiteMissingError:
            if required:
                raise
            continue
        parts.append((archive, _fetch_index(release, architecture, fetcher)))
    return Index(parts)


def _fetch_index(release: Release, architecture: str, fetcher: Fetcher) -> bytes:
    path = f"main/binary-{architecture}/Packages.xz"
    entry = release.files.get(path)
    if entry is None:
        raise DebianError(
            f"{release.codename} has no packages for {architecture}",
            where=redacted(release.url),
            hint="Debian's bases exist for amd64 and arm64.",
        )
    title = f"package index of {release.codename}"
    plain = f"{release.url}/{path}"
    urls = [plain]
    if release.by_hash and local_path(plain) is None:
        urls.insert(0, f"{plain.rpartition('/')[0]}/by-hash/SHA256/{entry.sha256}")
    for url in urls:
        download = Download(url=url, sha256=entry.sha256, size=entry.size, title=title)
        try:
            (file,) = fetcher.fetch([download])
        except StatusError as error:
            if error.status == 404 and url != plain:
                continue
            raise
        return _unpack(file, title)
    raise AssertionError("unreachable: the last address returns or raises")


def _unpack(path: Path, title: str) -> bytes:
    data = bytearray()
    try:
        with lzma.open(path) as file:
            while chunk := file.read(4 << 20):
                data += chunk
                if len(data) > _LARGEST_INDEX:
                    raise lzma.LZMAError("it is larger than any index")
    except (lzma.LZMAError, EOFError, OSError) as error:
        raise DebianError(
            f"the {title} can't be unpacked: {error}",
            where=str(path),
            hint="Remove this file and build again.",
        ) from error
    return bytes(data)
