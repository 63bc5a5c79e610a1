"""Image references as people write them, by Docker's grammar (distribution/reference).

    reference = [domain "/"] path-component {"/" path-component} [":" tag] ["@" digest]

Rules:
- The first component is a domain only if it has "." or ":", is "localhost", or has upper-case
  letters; otherwise the domain is docker.io, and a lone name there lies below "library".
- Repository names are lower case and at most 255 characters with the domain; a tag has at most
  128. 64 hexadecimal digits alone are refused: they would be an image ID.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockyard.errors import ImageError
from dockyard.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_HOST = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_HOST}(?:\.{_HOST})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_ID = re.compile(r"[a-f0-9]{64}\Z")
_MAX_NAME = 255
_MAX_TEXT = 1024  # more than name, tag and digest can have together


def is_tag(value: object) -> bool:
    """Whether the value is text that can be a tag."""
    return isinstance(value, str) and bool(_TAG.match(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A repository and which of its images: by tag, digest, or both (then the digest rules)."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse what a user wrote, with Docker's defaults; raises ImageError saying why not."""
        if len(text) > _MAX_TEXT:
            raise _bad(text, f"it has {len(text)} characters")
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        tag: str | None = None
        name, colon, last = rest.rpartition(":")
        if colon and "/" not in last:
            rest, tag = name, last
            if not _TAG.match(tag):
                raise _bad(text, f"the tag {tag!r} isn't up to 128 letters, digits, '_', '.', '-'")
        if _ID.match(rest):
            raise _bad(text, "64 hexadecimal digits are an image ID")
        domain, path = _split(rest)
        if not _DOMAIN.match(domain):
            raise _bad(text, f"{domain!r} is no registry's name")
        if path != path.lower():
            raise _bad(text, "repository names are lower case")
        if not _PATH.match(path):
            raise _bad(text, f"{path!r} is no repository name")
        if len(domain) + 1 + len(path) > _MAX_NAME:
            raise _bad(text, "the name has more than 255 characters")
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        return cls(domain=domain, path=path, tag=tag, digest=digest)

    @property
    def repository(self) -> str:
        """Domain and path: "docker.io/library/python"."""
        return f"{self.domain}/{self.path}"

    def familiar(self) -> str:
        """The short form that Docker shows: "python:3.12"."""
        name = self.repository
        if self.domain == DEFAULT_DOMAIN:
            name = self.path
            library, slash, last = name.partition("/")
            if library == "library" and slash and "/" not in last:
                name = last
        return name + self._suffix()

    def __str__(self) -> str:
        return self.repository + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return tag + (f"@{self.digest}" if self.digest is not None else "")


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _bad(text: str, why: str) -> ImageError:
    return ImageError(
        f"{text[:300]!r} is no image reference: {why}",
        hint="Write NAME[:TAG], USER/NAME[:TAG] or REGISTRY/NAME[:TAG].",
    )
