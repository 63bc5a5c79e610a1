"""What a registry asks of those who knock: the WWW-Authenticate header (RFC 9110, 11.6.1).

    challenges = scheme [ 1*SP ( token68 / params ) ] { "," scheme … }

Rules: schemes and parameter names are case-insensitive; quoted strings may hold commas and
escapes; what can't be read ends the reading, without an error. Bearer is preferred to Basic, as
Docker does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|(?=,)|\Z)")
_PARAM = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?:,|\Z)')
_LONGEST = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way in: "basic", or "bearer" with a token from realm, for service, of this scope."""

    scheme: str
    realm: str = ""
    service: str = ""
    scopes: frozenset[str] = frozenset()


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """The challenges of all WWW-Authenticate headers, in their order."""
    found: list[Challenge] = []
    for text in headers:
        found += _parse(text[:_LONGEST])
    return found


def choose_challenge(headers: list[str]) -> Challenge | None:
    """The challenge that we can meet, Bearer first; None without one."""
    challenges = parse_challenges(headers)
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "basic" or challenge.realm):
                return challenge
    return None


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(text, position):
        scheme, position = match[1].lower(), match.end()
        params: dict[str, str] = {}
        while match := _PARAM.match(text, position):
            quoted, plain = match[2], match[3]
            params[match[1].lower()] = (
                re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            )
            position = match.end()
        found.append(
            Challenge(
                scheme=scheme,
                realm=params.get("realm", ""),
                service=params.get("service", ""),
                scopes=frozenset(params.get("scope", "").split()),
            )
        )
        while position < len(text) and text[position] in ", \t":
            position += 1
    return found
