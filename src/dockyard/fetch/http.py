"""One GET over HTTP: redirects, credentials, certificates, and which failures may pass.

Rules:
- Credentials (of the URL, or of netrc) go to the host they are meant for, never along a redirect
  to another origin, and never into a message.
- httpx's errors become ours here, at one line.
- 408, 429, 5xx and broken connections are tried again, after Retry-After or a growing pause, as
  long as no more than ATTEMPTS of them in a row bring no byte.
"""

from __future__ import annotations

import base64
import os
import ssl
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from dockyard.errors import DockyardError, FetchError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import httpx

ATTEMPTS = 5
REDIRECTS = 10
LONGEST_PAUSE = 60.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class StatusError(FetchError):
    """A server answered with an error; `status` is its number."""

    def __init__(self, what: str, *, status: int, where: str, hint: str | None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status


class Again(Exception):
    """The attempt failed in a way that may pass; pause: seconds that the server asked for."""

    def __init__(self, error: FetchError, pause: float | None = None) -> None:
        super().__init__(error.what)
        self.error = error
        self.pause = pause


def redacted(url: str) -> str:
    """Return `url` without user name and password, fit for a message."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise FetchError(
            f"a URL can't be read: {error}", hint="Write it as https://host/path."
        ) from error
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class Attempts:
    """Iterates over tries: `for attempt in Attempts(...): with attempt: …return`."""

    def __init__(self, where: str, stop: threading.Event) -> None:
        self._where = where
        self._stop = stop
        self._failures = 0

    def __iter__(self) -> Iterator[Attempts]:
        while True:
            yield self

    def __enter__(self) -> Attempts:
        return self

    def advanced(self) -> None:
        """Count from the start again: bytes came."""
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
        if self._failures >= ATTEMPTS:
            raise again.error from error
        pause = 0.5 * 2**self._failures if again.pause is None else again.pause
        if self._stop.wait(min(pause, LONGEST_PAUSE)):
            raise again.error from error
        return True


def _translated(error: BaseException, where: str) -> Again | None:
    """Turn httpx's errors into ours: the one line where they are translated."""
    import httpx

    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        raise FetchError(
            f"this is no usable URL: {error}", where=where, hint="Write it as https://host/path."
        ) from error
    if not isinstance(error, httpx.RequestError):
        return None
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise FetchError(
            f"the server's certificate can't be verified: {text}",
            where=where,
            hint="Name your company's CA file in SSL_CERT_FILE.",
        ) from error
    return Again(
        FetchError(
            f"the download failed: {text}",
            where=where,
            hint="Check the network, HTTPS_PROXY and NO_PROXY, then run again.",
        )
    )


class Opened:
    """A streamed GET, its redirects followed with credentials kept at home."""

    def __init__(self, client: httpx.Client, url: str, headers: dict[str, str]) -> None:
        self._client = client
        self._url = url
        self._headers = headers

    def __enter__(self) -> httpx.Response:
        url, authorization = self._url, _authorization(self._url)
        for _ in range(REDIRECTS):
            headers = dict(self._headers)
            if authorization is not None:
                headers["Authorization"] = authorization
            request = self._client.build_request("GET", redacted(url), headers=headers)
            response = self._client.send(request, stream=True, follow_redirects=False)
            target = response.headers.get("location")
            if response.status_code not in (301, 302, 303, 307, 308) or not target:
                self.response = response
                return response
            response.close()
            following = urljoin(redacted(url), target)
            before, after = urlsplit(url), urlsplit(following)
            if after.scheme not in ("http", "https") or (
                before.scheme == "https" and after.scheme == "http"
            ):
                raise FetchError(
                    f"the server redirects to {redacted(following)}, which isn't safe to follow",
                    where=redacted(self._url),
                    hint="Use the address it redirects to, if you trust it.",
                )
            if _origin(before) != _origin(after):
                # netrc's entry for a new host is that host's own; the same host on another
                # port may belong to someone else.
                other_host = before.hostname != after.hostname
                authorization = _from_netrc(after.hostname or "") if other_host else None
            url = following
        raise FetchError(
            f"the server redirects more than {REDIRECTS} times", where=redacted(self._url)
        )

    def __exit__(self, *details: object) -> None:
        self.response.close()


def _authorization(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.username is None:
        return _from_netrc(parts.hostname or "")
    return _basic(unquote(parts.username), unquote(parts.password or ""))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _from_netrc(host: str) -> str | None:
    import netrc

    named = os.environ.get("NETRC")
    candidates = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in candidates:
        try:
            entry = netrc.netrc(path).hosts.get(host)
        except (OSError, netrc.NetrcParseError):
            continue
        if entry is not None:
            return _basic(entry[0], entry[2])
    return None


def _origin(parts: Any) -> tuple[str, str | None, int | None]:
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or default


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """Return the certificates to trust: those of `ca_file`, else the system's."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise FetchError(
            f"the CA file can't be used: {error.strerror or error}",
            where=str(ca_file),
            hint="Name a file of PEM certificates.",
        ) from error
    named = ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not named and not context.get_ca_certs():
        # A Python built elsewhere may look for the system's certificates where none are.
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def check_status(response: httpx.Response, url: str) -> None:
    """Raise StatusError, or Again where the same request may succeed later."""
    status = response.status_code
    if 200 <= status < 300:
        return
    error = status_error(response, url)
    if status in _AGAIN:
        raise Again(error, retry_after(response))
    raise error


def status_error(response: httpx.Response, url: str) -> StatusError:
    """Return the error that says what the server answered."""
    status = response.status_code
    hints = {
        401: "Give user and password in the URL or in ~/.netrc.",
        403: "Check that you may read it; user and password come from the URL or ~/.netrc.",
        404: "The file isn't there (any more); check the address, or lock again.",
        407: "The proxy wants a password; give it in HTTPS_PROXY.",
    }
    return StatusError(
        f"the server answers {status} {response.reason_phrase}".rstrip(),
        status=status,
        where=redacted(url),
        hint=hints.get(status, "Run again later."),
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110, 10.2.3: a number or a date)."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def continues(response: httpx.Response, offset: int) -> bool:
    """Whether a 206 answer starts at `offset`."""
    text: str = response.headers.get("content-range", "")
    return text.startswith(f"bytes {offset}-")


def validators_of(response: httpx.Response) -> dict[str, str]:
    """Return the answer's ETag and Last-Modified, as kept beside what it brought."""
    named = {"etag": "etag", "last_modified": "last-modified"}
    return {
        key: response.headers[header] for key, header in named.items() if header in response.headers
    }


def conditions_of(record: dict[str, Any]) -> dict[str, str]:
    """Return the headers that ask "has this changed?", from kept validators."""
    if record.get("etag"):
        return {"If-None-Match": record["etag"]}
    if record.get("last_modified"):
        return {"If-Modified-Since": record["last_modified"]}
    return {}
