"""User names and passwords for package indexes: kept apart from what is shown or written.

Rules:
- A text that leaves the process (message, plan, lock, record) goes through `redact` or
  `without_credentials` first.
- A credential is given back to a URL only when scheme, host and port are those it came with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

# The user part ends at the last "@" before the next slash or blank (RFC 3986, 3.2).
_USERINFO = re.compile(r"(?<=://)[^\s/\"'<>`]+@(?=[^\s/\"'<>`@])")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>`,;]+", re.IGNORECASE)


def without_credentials(url: str) -> str:
    """Return the URL (or any text with URLs) without user names and passwords.

    "git@" in front of an SSH host is no secret and stays.
    """
    return _USERINFO.sub(lambda found: found[0] if found[0] == "git@" else "", url)


def find_urls(text: str) -> list[str]:
    """Return the URLs in a text."""
    return _URL.findall(text)


@dataclass(frozen=True, slots=True)
class Credential:
    """What opens one origin; userinfo is "user:password", percent-encoded."""

    origin: tuple[str, str]
    userinfo: str

    def __repr__(self) -> str:
        return f"Credential({self.origin[0]}://{self.origin[1]}, …)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """All credentials that are known for a resolution."""

    known: tuple[Credential, ...] = ()

    @classmethod
    def of(cls, urls: Iterable[str]) -> Credentials:
        """Collect the credentials that these URLs hold."""
        found = []
        for url in urls:
            try:
                parts = urlsplit(url)
            except ValueError:
                continue
            userinfo, at, host = parts.netloc.rpartition("@")
            # A variable that isn't expanded yet is no credential.
            if at and userinfo != "git" and "$" not in userinfo:
                found.append(Credential((_scheme(parts.scheme), host.lower()), userinfo))
        return cls(tuple(dict.fromkeys(found)))

    def __add__(self, other: Credentials) -> Credentials:
        return Credentials(tuple(dict.fromkeys(self.known + other.known)))

    def authorize(self, url: str) -> str:
        """Return the URL with the credential of its origin, if there is one."""
        parts = urlsplit(url)
        if "@" in parts.netloc or not parts.netloc:
            return url
        origin = (_scheme(parts.scheme), parts.netloc.lower())
        for credential in self.known:
            if credential.origin == origin:
                return urlunsplit(parts._replace(netloc=f"{credential.userinfo}@{parts.netloc}"))
        return url

    def redact(self, text: str) -> str:
        """Return the text without credentials, in URLs or standing alone."""
        text = without_credentials(text)
        for credential in self.known:
            user, _, password = credential.userinfo.partition(":")
            # A token may stand where the user name does: then it is the secret.
            for secret in {password or user, unquote(password or user)}:
                if len(secret) > 3:
                    text = text.replace(secret, "***")
        return text


def _scheme(scheme: str) -> str:
    return scheme.lower().removeprefix("git+").removeprefix("hg+").removeprefix("svn+")
