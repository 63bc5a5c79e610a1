"""Which path is answered by what: literal segments first, then those in braces.

Rules: segments are decoded one by one, so that an encoded slash stays in its segment. HEAD is GET
without the body, OPTIONS is answered for every path that exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from dockyard_serve.errors import MethodNotAllowed, NotFound
from dockyard_serve.http.exchange import Exchange

Answer = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class _Pattern:
    segments: tuple[str, ...]
    methods: dict[str, Answer]

    def match(self, segments: list[str]) -> dict[str, str] | None:
        if len(segments) != len(self.segments):
            return None
        params = {}
        for wanted, given in zip(self.segments, segments, strict=True):
            if wanted.startswith("{"):
                name, _, suffix = wanted[1:].partition("}")
                if not given.endswith(suffix) or len(given) == len(suffix):
                    return None
                params[name] = given[: len(given) - len(suffix)] if suffix else given
            elif wanted != given:
                return None
        return params


@dataclass(frozen=True, slots=True)
class Match:
    """What answers, with what the braces matched; `answer` is None for OPTIONS."""

    answer: Answer | None
    params: Mapping[str, str]
    allowed: tuple[str, ...]


class Router:
    """The server's paths; those added first win."""

    def __init__(self) -> None:
        self._patterns: list[_Pattern] = []

    def add(self, method: str, path: str, answer: Answer) -> None:
        """Answer a method of a path such as `/v1/models/{model}:predict`."""
        segments = tuple(path.split("/")[1:])
        for pattern in self._patterns:
            if pattern.segments == segments:
                pattern.methods.setdefault(method, answer)
                return
        self._patterns.append(_Pattern(segments, {method: answer}))

    def match(self, method: str, target: str) -> Match:
        """What answers; raises NotFound or MethodNotAllowed."""
        segments = [unquote(segment) for segment in target.split("/")[1:]]
        if len(segments) > 1 and segments[-1] == "":
            segments.pop()  # A slash at the end makes no difference.
        allowed: tuple[str, ...] = ()
        for pattern in self._patterns:
            params = pattern.match(segments)
            if params is None:
                continue
            methods = dict(pattern.methods)
            if "GET" in methods:
                methods.setdefault("HEAD", methods["GET"])
            allowed = allowed or (*methods, "OPTIONS")
            if method in methods:
                return Match(methods[method], params, allowed)
        if method == "OPTIONS" and (allowed or target == "*"):
            return Match(None, {}, allowed or ("GET", "POST", "OPTIONS"))
        if allowed:
            raise MethodNotAllowed(
                f"{target} is for {' and '.join(allowed)}, not {method[:20]}", allowed=allowed
            )
        raise NotFound(f"there is nothing at {target[:200]}; /v2 says what the server offers")
