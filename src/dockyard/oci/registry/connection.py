"""One registry's HTTP: its requests authorized, redirected and translated.

Rules:
- Authorization goes to the registry's own origin alone. A redirect or a Location elsewhere is
  followed without it; from HTTPS to HTTP it isn't followed, unless the host is the same, whose
  scheme then stays (a proxy before the registry often hides TLS from it).
- A 401 is met once with what it asks for. A request with a streamed body isn't sent again here,
  since its bytes may have arrived: its sender asks first.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from dockyard.errors import RegistryError
from dockyard.oci.registry.attempts import Again, Attempts, is_certificate_error
from dockyard.oci.registry.auth import Authorizer
from dockyard.oci.registry.endpoints import is_loopback, origin
from dockyard.oci.registry.refusals import refusal, shown_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import httpx

    from dockyard.oci.registry.attempts import Patience
    from dockyard.oci.registry.credentials import Login
    from dockyard.oci.registry.endpoints import Endpoint

_REDIRECTS = 5
_SHORT = 64 << 10
_REDIRECT = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. url: absolute, or a path on the registry; doing: for messages.

    scopes: what its token must allow ("repository:ada/app:pull"). body gives the bytes anew each
    time it is called; size is how many there are. follow: go where redirects lead.
    """

    method: str
    url: str
    doing: str
    scopes: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Iterable[bytes]] | None = None
    data: bytes | None = None
    size: int = 0
    follow: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A small response, read to its end. url is where it came from."""

    status: int
    url: str
    headers: httpx.Headers
    data: bytes = b""


class Host:
    """One endpoint's HTTP client, and whether TLS answers there; may be used from any thread."""

    def __init__(self, endpoint: Endpoint, client: httpx.Client) -> None:
        self.endpoint = endpoint
        self.client = client
        self._url: str | None = None
        self._asking = threading.Lock()

    @property
    def url(self) -> str:
        """The origin, such as "https://registry.example"; asked once where it may be plain."""
        with self._asking:
            if self._url is None:
                url = f"https://{self.endpoint.host}"
                plain = self.endpoint.may_be_plain and not self._speaks_tls(url)
                self._url = f"http://{self.endpoint.host}" if plain else url
            return self._url

    def _speaks_tls(self, url: str) -> bool:
        import httpx

        try:
            self.client.get(f"{url}/v2/")
        except httpx.TransportError as error:
            # A connection that isn't made says nothing of TLS; the request itself will tell.
            return is_certificate_error(error)
        return True


class Connection:
    """One repository's requests to an endpoint; may be used from any thread."""

    def __init__(
        self,
        host: Host,
        *,
        elsewhere: Callable[[], httpx.Client],
        patience: Patience,
        login: Callable[[], Login | None],
    ) -> None:
        """elsewhere: the client for other hosts, which a registry may send us to."""
        self.endpoint = host.endpoint
        self.patience = patience
        self._host = host
        self._elsewhere = elsewhere
        self._login = login
        self._authorizer: Authorizer | None = None
        self._opening = threading.Lock()

    @property
    def was_asked(self) -> bool:
        """Whether the registry has asked who we are."""
        return self._authorizer is not None and self._authorizer.was_asked

    def ask(
        self,
        request: Request,
        *,
        good: Iterable[int],
        most: int = 64 << 10,
        absent_ok: bool = False,
    ) -> Answer | None:
        """Send a small request, again where that may help, and read its answer.

        most: bytes that the answer may have. absent_ok: None for a 404 instead of an error.
        """
        good = frozenset(good)
        for attempt in Attempts(self.where(request.url), self.patience):
            with attempt, self.exchange(request) as response:
                if response.status_code == 404 and absent_ok:
                    return None
                if response.status_code not in good:
                    raise self.refusal(response, request)
                return Answer(
                    status=response.status_code,
                    url=str(response.url),
                    headers=response.headers,
                    data=_read(response, most, self.where(request.url)),
                )
        raise AssertionError("unreachable: the attempts end with an error")

    @contextmanager
    def exchange(self, request: Request) -> Iterator[httpx.Response]:
        """Send a request once; yield the response, its body unread and its status unjudged."""
        authorizer = self._open()
        url = urljoin(authorizer.url + "/", request.url)
        for last in (False, True):
            home = origin(url) == origin(authorizer.url)
            header = authorizer.header(request.scopes) if home else None
            with self._followed(request, url, header) as response:
                again = False
                if response.status_code == 401 and not last and self.is_home(str(response.url)):
                    asked = response.headers.get_list("www-authenticate")
                    again = authorizer.meet(asked, request.scopes, header)
                if not again:
                    yield response
                    return
                if request.body is not None:
                    error = self.refusal(response, request)
                    assert isinstance(error, RegistryError)
                    raise Again(error, 0.0)

    def refusal(self, response: httpx.Response, request: Request) -> RegistryError | Again:
        """What to raise for a response that isn't what was hoped for."""
        return refusal(
            response,
            doing=request.doing,
            where=self.where(request.url),
            secrets=self._open().secrets,
            login=self._open().login_source,
        )

    def where(self, url: str) -> str:
        """The request's URL, fit to be shown."""
        if self._authorizer is None:
            return shown_url(urljoin(f"https://{self.endpoint.host}/", url))
        return shown_url(urljoin(self._authorizer.url + "/", url))

    def is_home(self, url: str) -> bool:
        """Whether the URL is on the registry's own origin, where its credentials may go."""
        return origin(url) == origin(self._open().url)

    def location(self, answer: Answer) -> str:
        """The absolute URL that an upload goes on at; raises RegistryError without a usable one."""
        target = answer.headers.get("location")
        if not target:
            raise RegistryError(
                "the registry says not where the upload goes on (no Location)",
                where=shown_url(answer.url),
            )
        return self._safe(answer.url, target)

    def _safe(self, before: str, target: str) -> str:
        """Where a Location leads, absolute; raises RegistryError when it isn't safe to follow."""
        from_scheme, from_host, _ = origin(before)
        try:
            url = urljoin(before, target)
            scheme, host, port = origin(url)
        except ValueError:
            url, scheme, host, port = "elsewhere", "", "", 0
        if (scheme, from_scheme) == ("http", "https") and host == from_host and port == 80:
            own = urlsplit(before).netloc
            return urlunsplit(urlsplit(url)._replace(scheme="https", netloc=own))
        plain_ok = from_scheme == "http" or self.endpoint.insecure or is_loopback(host)
        if scheme == "https" or (scheme == "http" and plain_ok):
            return url
        raise RegistryError(
            f"the registry sends us to {shown_url(url)[:200]}, which isn't safe to follow",
            where=shown_url(before),
        )

    @contextmanager
    def _followed(self, request: Request, url: str, header: str | None) -> Iterator[httpx.Response]:
        method, home = request.method, self._open().url
        for _ in range(_REDIRECTS + 1):
            at_home = origin(url) == origin(home)
            response = self._send(replace(request, method=method, url=url), header, at_home=at_home)
            try:
                target = response.headers.get("location")
                if not (request.follow and target and response.status_code in _REDIRECT):
                    yield response
                    return
            finally:
                _finish(response)
            if method not in ("GET", "HEAD") and response.status_code not in (307, 308):
                raise RegistryError(
                    f"{request.doing}: the registry redirects a {method}",
                    where=self.where(request.url),
                )
            url = self._safe(url, target)
        raise RegistryError(
            f"the registry redirects more than {_REDIRECTS} times", where=self.where(request.url)
        )

    def _send(self, request: Request, header: str | None, *, at_home: bool) -> httpx.Response:
        client = self._host.client if at_home else self._elsewhere()
        headers = dict(request.headers)
        if header is not None and at_home:
            headers["Authorization"] = header
        content: bytes | Iterable[bytes] | None = request.data
        if request.body is not None:
            headers["Content-Length"] = str(request.size)
            content = request.body()
        built = client.build_request(request.method, request.url, headers=headers, content=content)
        return client.send(built, stream=True, follow_redirects=False)

    def _open(self) -> Authorizer:
        with self._opening:
            if self._authorizer is None:
                self._authorizer = Authorizer(
                    url=self._host.url,
                    client=self._host.client,
                    patience=self.patience,
                    login=self._login,
                )
            return self._authorizer


def _finish(response: httpx.Response) -> None:
    """Close the response; what is short is read first, so that its connection serves again."""
    import httpx

    length = response.headers.get("content-length", "0")
    if not response.is_stream_consumed and length.isdigit() and int(length) <= _SHORT:
        try:
            for _ in response.iter_raw():
                pass
        except httpx.HTTPError:
            pass  # Nothing of it was wanted.
    response.close()


def _read(response: httpx.Response, most: int, where: str) -> bytes:
    """The response's body; raises RegistryError, before reading it all, when it is too long."""
    length = response.headers.get("content-length", "")
    data = bytearray()
    too_long = length.isdigit() and int(length) > most and response.request.method != "HEAD"
    if not too_long:
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > most:
                too_long = True
                break
    if too_long:
        raise RegistryError(f"the registry's answer is larger than {most} bytes", where=where)
    return bytes(data)
