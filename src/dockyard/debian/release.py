"""A suite's Release: who signed it, whether it is fresh, and the hashes of its indexes.

Rules (apt-secure(8); the repository format's "Release files"):
- Only InRelease is read, and of it only what a trusted key signed.
- Codename must be the suite that was asked for: a signed Release of another suite is no answer.
- Valid-Until, where present, must not have passed, and Date must not lie in the future;
  otherwise an old state with known holes could be replayed. A snapshot is old on purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.debian.control import parse_stanza
from dockyard.errors import DebianError
from dockyard.fetch import StatusError, local_path, redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.debian.mirror import Archive, Mirror
    from dockyard.fetch import Fetcher

_LARGEST = 4 << 20
_SKEW = timedelta(days=1)
_HOST_KEYS = Path("/usr/share/keyrings")

Keys = tuple[Any, ...]
"""OpenPGP certificates (pysequoia.Cert) that may sign a Release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """What a Release says of one file."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A verified Release; `files` by path relative to `url` (…/dists/SUITE)."""

    url: str
    codename: str
    date: datetime
    by_hash: bool
    files: Mapping[str, IndexFile]


class SuiteMissingError(DebianError):
    """The archive has no such suite."""

    def __init__(self, suite: str, url: str) -> None:
        super().__init__(
            f"the mirror has no suite {suite}",
            where=redacted(url),
            hint="Name a mirror that has it: its archive, then its security archive.",
        )


def read_release(
    mirror: Mirror,
    archive: Archive,
    suite: str,
    *,
    fetcher: Fetcher,
    keys: Keys | None = None,
    now: datetime | None = None,
) -> Release:
    """Fetch and verify the InRelease of `suite`.

    keys: instead of Debian's own. Raises DebianError when it isn't signed by one of them or isn't
    fresh; a SuiteMissingError where the archive has no such suite.
    """
    url = f"{mirror.url(archive)}/dists/{suite}"
    path = local_path(f"{url}/InRelease")
    if path is not None and not path.exists():
        raise SuiteMissingError(suite, url)
    try:
        document = fetcher.read(f"{url}/InRelease", max_size=_LARGEST)
    except StatusError as error:
        if error.status != 404:
            raise
        raise SuiteMissingError(suite, url) from error
    text = verified_text(document, keys if keys is not None else archive_keys(), where=url)
    return parse_release(
        text, suite=suite, url=url, now=None if mirror.is_snapshot else now or datetime.now(UTC)
    )


def verified_text(document: bytes, keys: Keys, *, where: str) -> str:
    """Return the part of a clear-signed document that one of `keys` signed."""
    import pysequoia

    try:
        verified = pysequoia.verify(bytes=document, store=lambda _: list(keys))
    except Exception as error:
        raise _unsigned(where) from error
    if not verified.valid_sigs or verified.bytes is None:
        raise _unsigned(where)
    return verified.bytes.decode("utf-8", "replace")


def _unsigned(where: str) -> DebianError:
    return DebianError(
        "InRelease has no valid signature by a Debian archive key",
        where=redacted(where),
        hint="The mirror isn't Debian's, or something on the way changed it. Use another mirror.",
    )


def parse_release(text: str, *, suite: str, url: str, now: datetime | None) -> Release:
    """Parse a Release and check its codename and, at time `now`, its dates."""
    fields = parse_stanza(text)
    where = redacted(url)
    codename = fields.get("codename", "")
    if codename != suite:
        raise DebianError(
            f"the Release is that of {codename or 'no suite'}, not of {suite}",
            where=where,
            hint="The mirror is set up wrongly; use another mirror.",
        )
    date = _date(fields, "date", where)
    if date is None:
        raise _damaged("has no Date", where)
    if now is not None:
        if date > now + _SKEW:
            raise DebianError(
                f"the Release is dated {date:%Y-%m-%d %H:%M}, in the future",
                where=where,
                hint="Set this machine's clock.",
            )
        until = _date(fields, "valid-until", where)
        if until is not None and until < now:
            raise DebianError(
                f"the Release was valid until {until:%Y-%m-%d %H:%M} only",
                where=where,
                hint="The mirror is out of date (or this machine's clock is wrong).",
            )
    files: dict[str, IndexFile] = {}
    for line in fields.get("sha256", "").splitlines():
        words = line.split()
        if len(words) == 3 and re.fullmatch(r"[0-9a-f]{64}", words[0]) and words[1].isdigit():
            files[words[2]] = IndexFile(sha256=words[0], size=int(words[1]))
    if not files:
        raise _damaged("lists no SHA256", where)
    return Release(
        url=url,
        codename=codename,
        date=date,
        by_hash=fields.get("acquire-by-hash", "") == "yes",
        files=files,
    )


def _date(fields: Mapping[str, str], name: str, where: str) -> datetime | None:
    text = fields.get(name)
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError as error:
        raise _damaged(f"has an unreadable {name.title()}", where) from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _damaged(how: str, where: str) -> DebianError:
    return DebianError(f"the Release {how}", where=where, hint="Use another mirror.")


@lru_cache(maxsize=1)
def archive_keys() -> Keys:
    """Return Debian's archive keys: those shipped here, and the host's, which may be newer."""
    import pysequoia

    found: dict[str, Any] = {}

    def add(data: bytes) -> None:
        for cert in pysequoia.Cert.split_bytes(data):
            known = found.get(cert.fingerprint)
            # The same key may have got a later expiry since.
            found[cert.fingerprint] = cert if known is None else known.merge(cert)

    for item in sorted(
        (resources.files("dockyard.debian") / "keys").iterdir(), key=lambda item: item.name
    ):
        if item.name.endswith(".asc"):
            add(item.read_bytes())
    # Installed by Debian's own package only: root's word on this host.
    for path in sorted(_HOST_KEYS.glob("debian-archive-keyring.*")):
        try:
            add(path.read_bytes())
        except Exception:  # noqa: S112 - an unreadable host keyring leaves the shipped keys
            continue
    return tuple(found.values())
