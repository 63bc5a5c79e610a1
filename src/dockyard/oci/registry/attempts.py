"""Trying again: which failures of a registry may pass, and how long to wait for that.

Rules:
- 408, 429, 500, 502, 503, 504 and broken connections are tried again, after Retry-After or a
  growing pause, until ATTEMPTS of them in a row have brought nothing forward; where no connection
  is made at all, fewer.
- httpx's errors become ours here, at one line.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import DockyardError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTEMPTS = 5
_UNREACHED = 3
WORTH_A_TRY = 64 << 10  # Bytes; a connection that brings fewer before it breaks counts as failed.
AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class Again(Exception):
    """The attempt failed in a way that may pass.

    pause: seconds that the server asked for; unreached: nobody answered at all.
    """

    def __init__(
        self, error: RegistryError, pause: float | None = None, *, unreached: bool = False
    ) -> None:
        super().__init__(error.what)
        self.error = error
        self.pause = pause
        self.unreached = unreached


class Stopped(RegistryError):
    """Another part of the same work failed, or the user interrupted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a thing is tried, and the pauses in between, in seconds.

    stop ends all waiting when it is set.
    """

    attempts: int = ATTEMPTS
    first_pause: float = 0.5
    longest_pause: float = 60.0
    stop: threading.Event

    @classmethod
    def usual(cls) -> Patience:
        """What suits registries in the world."""
        return cls(stop=threading.Event())

    def check(self) -> None:
        """Raise Stopped when all work is to end."""
        if self.stop.is_set():
            raise Stopped("the transfer was stopped")


class Attempts:
    """Iterates over tries: `for attempt in Attempts(...): with attempt: …return`."""

    def __init__(self, where: str, patience: Patience) -> None:
        self._where = where
        self._patience = patience
        self._failures = 0

    def __iter__(self) -> Iterator[Attempts]:
        while True:
            yield self

    def __enter__(self) -> Attempts:
        self._patience.check()
        return self

    def advanced(self) -> None:
        """Count from the start again: WORTH_A_TRY bytes arrived."""
        self._failures = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        if error is None or isinstance(error, DockyardError):
            return False
        again = error if isinstance(error, Again) else _translated(error, self._where)
        if again is None:
            return False
        self._failures += 1
        # A host that isn't there is more often a mistyped name than a passing trouble.
        tries = self._patience.attempts
        if self._failures >= (min(tries, _UNREACHED) if again.unreached else tries):
            raise again.error from error
        pause = again.pause
        if pause is None:
            pause = self._patience.first_pause * 2 ** (self._failures - 1)
        if self._patience.stop.wait(min(pause, self._patience.longest_pause)):
            raise again.error from error
        return True


def _translated(error: BaseException, where: str) -> Again | None:
    """Turn httpx's errors into ours: the one line where they are translated."""
    import httpx

    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        raise RegistryError(f"the registry's address can't be used: {error}", where=where) from (
            error
        )
    if not isinstance(error, httpx.RequestError):
        return None
    text = str(error) or type(error).__name__
    if is_certificate_error(error):
        raise RegistryError(
            f"the registry's certificate can't be verified: {text}",
            where=where,
            hint="Name your company's CA file in SSL_CERT_FILE, or put it into "
            "/etc/docker/certs.d/HOST/ca.crt.",
        ) from error
    if isinstance(error, httpx.TimeoutException):
        text = "no answer in time"
    elif isinstance(error, httpx.LocalProtocolError):
        text = "the request isn't valid HTTP"  # its own words quote headers
    return Again(
        RegistryError(
            f"the registry can't be reached: {text}",
            where=where,
            hint="Check the name, the network, HTTPS_PROXY and NO_PROXY, then run again.",
        ),
        unreached=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
    )


def is_certificate_error(error: BaseException) -> bool:
    """Whether TLS works and the certificate is the trouble."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
