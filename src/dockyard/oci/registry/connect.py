"""Every registry as this user reaches it: connections, logins, mirrors, opened when first used."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from dockyard.errors import RegistryError
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import Denied
from dockyard.oci.registry.attempts import Patience
from dockyard.oci.registry.client import HttpRepository, Place
from dockyard.oci.registry.connection import Connection, Host, Request
from dockyard.oci.registry.credentials import UserCredentials
from dockyard.oci.registry.endpoints import Endpoint, endpoint_of, is_loopback, tls_context
from dockyard.oci.registry.settings import read_settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    import httpx

    from dockyard.cache import Cache
    from dockyard.oci.registry.credentials import Credentials
    from dockyard.oci.registry.settings import Place as Location
    from dockyard.oci.registry.settings import RegistrySettings

# Seconds; a registry that stores a large blob elsewhere first may take its time to say so.
_TIMEOUT = 120.0
_CONNECT = 15.0


class HttpRegistries:
    """The registries of the world; a context manager that closes its connections."""

    def __init__(
        self,
        *,
        cache: Cache | None = None,
        credentials: Credentials | None = None,
        settings: RegistrySettings | None = None,
        insecure: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        """Without credentials and settings: the user's own, as `credentials` and `settings` say.

        insecure: hosts with which plain HTTP is allowed. cache remembers unfinished uploads.
        timeout: seconds without a byte after which a connection counts as broken.
        """
        self.cache = cache
        self._environment = os.environ if environment is None else environment
        self._insecure = tuple(insecure)
        self._credentials = credentials or UserCredentials(self._environment)
        self._settings = settings
        self.patience = patience or Patience.usual()
        self._timeout = timeout
        self._connections: dict[tuple[Endpoint, str], Connection] = {}
        self._hosts: dict[Endpoint, Host] = {}
        self._elsewhere: httpx.Client | None = None
        self._opening = threading.RLock()

    def __enter__(self) -> HttpRegistries:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with self._opening:
            for host in self._hosts.values():
                host.client.close()
            if self._elsewhere is not None:
                self._elsewhere.close()
            self._hosts.clear()
            self._elsewhere = None
            self._connections.clear()

    def repository(self, reference: Reference | str) -> HttpRepository:
        """The repository that the reference names; nothing is asked of the registry yet.

        Raises RegistryError where registries.conf blocks it.
        """
        name = Reference.parse(reference) if isinstance(reference, str) else reference
        with self._opening:
            if self._settings is None:
                self._settings = read_settings(self._environment, insecure=self._insecure)
            settings = self._settings
            if settings.rule(name.domain, name.path).blocked:
                raise RegistryError(
                    f"registries.conf blocks {name.domain}",
                    where=name.repository,
                    hint="Take `blocked = true` out there, or use another registry.",
                )
            mirrors, own = settings.places(name.domain, name.path)
            return HttpRepository(
                domain=name.domain,
                path=name.path,
                own=self._place(own),
                mirrors=[self._place(mirror) for mirror in mirrors],
                cache=self.cache,
            )

    def check_login(self, domain: str) -> bool:
        """Try the login for a registry; returns whether it asked for one.

        Raises Denied when it doesn't accept it.
        """
        with self._opening:
            if self._settings is None:
                self._settings = read_settings(self._environment, insecure=self._insecure)
            _, own = self._settings.places(domain, "")
            connection = self._place(own).connection
        request = Request(method="GET", url="/v2/", doing="logging in")
        try:
            connection.ask(request, good=(200,))
        except Denied as error:
            raise Denied(
                "the registry doesn't accept this user and password",
                where=error.where,
                hint="Check both; many registries want an access token in place of the password.",
            ) from error
        return connection.was_asked

    def _place(self, location: Location) -> Place:
        endpoint, path = endpoint_of(location)
        return Place(
            connection=self._connect(endpoint, path),
            path=path,
            by_digest_only=location.by_digest_only,
        )

    def _connect(self, endpoint: Endpoint, path: str) -> Connection:
        # Logins may differ by repository (auth.json's keys), and tokens with them.
        key = (endpoint, path)
        if key not in self._connections:
            self._connections[key] = Connection(
                self._host(endpoint),
                elsewhere=self._elsewhere_client,
                patience=self.patience,
                login=lambda: self._credentials.login(endpoint.server, path),
            )
        return self._connections[key]

    def _host(self, endpoint: Endpoint) -> Host:
        if endpoint not in self._hosts:
            context = tls_context(endpoint, self._environment)
            self._hosts[endpoint] = Host(
                endpoint, self._client(context, proxies=not is_loopback(endpoint.host))
            )
        return self._hosts[endpoint]

    def _elsewhere_client(self) -> httpx.Client:
        from dockyard.fetch.http import trusted

        with self._opening:
            if self._elsewhere is None:
                self._elsewhere = self._client(trusted(None), proxies=True)
            return self._elsewhere

    def _client(self, context: ssl.SSLContext, *, proxies: bool) -> httpx.Client:
        import httpx

        from dockyard import __version__

        return httpx.Client(
            verify=context,
            # Go's programs, and so Docker and Podman, never ask a proxy for loopback.
            trust_env=proxies,
            timeout=httpx.Timeout(self._timeout, connect=_CONNECT, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            headers={"User-Agent": f"dockyard/{__version__}", "Accept-Encoding": "identity"},
        )
