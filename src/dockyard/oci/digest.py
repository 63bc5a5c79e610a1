"""Content digests (image-spec descriptor.md, "Digests"): `sha256:` and 64 hexadecimal digits.

Rules: parsed once at the edge; only SHA-256 is written, SHA-512 is read too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from dockyard.errors import ImageError

_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and lower-case hexadecimal digits."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse "sha256:…"; raises ImageError on anything but a registered algorithm's digest."""
        algorithm, colon, digits = text.partition(":")
        if not colon or len(digits) != _LENGTHS.get(algorithm) or not _HEX.match(digits):
            raise ImageError(
                f"{text[:100]!r} is no digest",
                hint="A digest is sha256: and 64 lower-case hexadecimal digits.",
            )
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The SHA-256 digest of data."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def matches(data: bytes | memoryview, digest: Digest) -> bool:
    """Whether data has this digest."""
    return hashlib.new(digest.algorithm, data).hexdigest() == digest.hex
