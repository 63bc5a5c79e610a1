"""Where Debian's archives are: named by the user, or found in the host's apt sources.

Rules:
- No host name is built in. Where none is known the answer is None, and the caller says so.
- A mirror is two archives: main, and security ("debian-security"), which lies beside main unless
  it is named too. Their signatures decide whether they are Debian's, not their names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dockyard.errors import DebianError
from dockyard.fetch import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE = "DOCKYARD_DEBIAN_MIRROR"
Archive = Literal["main", "security"]

_SUITES = ("bookworm", "trixie", "bullseye", "forky", "sid", "stable", "oldstable", "testing")
_SCHEMES = ("http://", "https://", "file:", "/")
_SNAPSHOT = re.compile(r"/\d{8}T\d{6}Z(/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The two archives' URLs, without a final slash, and what named them.

    security may be None only where a caller builds the mirror itself (a test, a private archive).
    """

    main: str
    security: str | None
    origin: str

    def url(self, archive: Archive) -> str:
        """Return the URL of one of the two archives; raises DebianError when there is none."""
        if archive == "main":
            return self.main
        if self.security is None:
            raise DebianError(
                "the mirror has no security archive",
                where=redacted(self.main),
                hint=f"Give two URLs in {VARIABLE}: Debian's archive, then its security archive.",
            )
        return self.security

    @property
    def is_snapshot(self) -> bool:
        """Whether the archive stands still on purpose (its path holds a time stamp)."""
        return _SNAPSHOT.search(self.main) is not None


def find_mirror(
    configured: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    apt: Path = Path("/etc/apt"),
) -> Mirror | None:
    """Return the mirror to use, or None where none is known.

    In this order: `configured` (URL of Debian's archive, then after a space optionally that of the
    security archive), the environment variable DOCKYARD_DEBIAN_MIRROR of the same form, the
    host's apt sources.
    """
    if configured and configured.strip():
        return parse_mirror(configured, origin="the configuration")
    if named := environ.get(VARIABLE, "").strip():
        return parse_mirror(named, origin=VARIABLE)
    return _of_apt(apt)


def parse_mirror(text: str, *, origin: str) -> Mirror:
    """Parse "URL" or "URL SECURITY-URL"; raises DebianError naming `origin`."""
    urls = [url.rstrip("/") for url in text.split()]
    if not 1 <= len(urls) <= 2 or not all(url.lower().startswith(_SCHEMES) for url in urls):
        raise DebianError(
            "this is no Debian mirror",
            where=origin,
            hint="Write the URL of a Debian archive: one that has dists/ and pool/ below it.",
        )
    security = urls[1] if len(urls) == 2 else _beside(urls[0])
    return Mirror(main=urls[0], security=security, origin=origin)


def _beside(main: str) -> str | None:
    """Return the usual URL of the security archive of a mirror whose path names "debian"."""
    parts = main.split("/")
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "debian":
            return "/".join([*parts[:index], "debian-security", *parts[index + 1 :]])
    return None


@dataclass(frozen=True, slots=True)
class _Entry:
    uri: str
    suite: str
    file: Path


def _of_apt(apt: Path) -> Mirror | None:
    """Choose among apt's entries: those that have updates beside the suite are Debian's own.

    A vendor's repository may call its suite "bookworm" and its component "main" as well.
    """
    entries = [
        entry
        for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*")))
        for entry in _entries(path)
    ]
    suites: dict[str, set[str]] = {}
    for entry in entries:
        suites.setdefault(entry.uri, set()).add(entry.suite)
    releases = [entry for entry in entries if entry.suite in _SUITES]
    if not releases:
        return None
    best = max(releases, key=lambda entry: f"{entry.suite}-updates" in suites[entry.uri])
    security = [entry.uri for entry in entries if entry.suite == f"{best.suite}-security"]
    return Mirror(
        main=best.uri,
        security=security[0] if security else _beside(best.uri),
        origin=str(best.file),
    )


def _entries(path: Path) -> Iterator[_Entry]:
    if path.suffix not in (".list", ".sources"):
        return
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return
    parse = _one_line_entries if path.suffix == ".list" else _deb822_entries
    for uris, suites, components in parse(text):
        for uri in uris:
            for suite in suites:
                name = suite.removesuffix("-updates").removesuffix("-security")
                if "main" in components and name in _SUITES and uri.startswith(_SCHEMES):
                    yield _Entry(uri.rstrip("/"), suite, path)


_Fields = tuple[list[str], list[str], list[str]]


def _one_line_entries(text: str) -> Iterator[_Fields]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            yield [words[1]], [words[2]], words[3:]


def _deb822_entries(text: str) -> Iterator[_Fields]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + " " + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value
        if "deb" in fields.get("types", "").split() and fields.get(
            "enabled", "yes"
        ).strip().lower() not in ("no", "false", "0", "off"):
            yield (
                fields.get("uris", "").split(),
                fields.get("suites", "").split(),
                fields.get("components", "").split(),
            )
