"""Being let in: Basic, and tokens as registries give them (distribution "Token Authentication").

Rules:
- Nothing is sent before the registry has asked; then what it asked for, to this registry only.
- A token is for scopes, kept until shortly before it expires, and fetched once however many
  threads want it.
- Identity tokens go by POST (OAuth2), user and password by GET; a service without POST (404, 405)
  gets the GET.
- The token service is the one that the registry's own answer names. It must use HTTPS, unless the
  registry itself is spoken to by HTTP and the service is on the same host; redirects to others
  aren't followed.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dockyard.errors import RegistryError
from dockyard.oci.registry.api import Denied
from dockyard.oci.registry.attempts import Attempts, Patience
from dockyard.oci.registry.challenge import Challenge, choose_challenge
from dockyard.oci.registry.endpoints import is_loopback, origin
from dockyard.oci.registry.refusals import refusal, shown_url

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from dockyard.oci.registry.credentials import Login

CLIENT_ID = "dockyard"
_LIFETIME = 60.0  # "expires_in": if omitted, 60 seconds
_MOST = 1 << 20
_SENDABLE = re.compile(r"[!-~]+\Z")  # what a header may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    value: str = field(repr=False)
    expires: float

    @property
    def fresh(self) -> bool:
        return time.monotonic() < self.expires


class Authorizer:
    """What to put into the Authorization header for one registry; may be used from any thread."""

    def __init__(
        self,
        *,
        url: str,
        client: httpx.Client,
        patience: Patience,
        login: Callable[[], Login | None],
    ) -> None:
        """url: the registry's origin; login is asked when the registry wants to know who we are."""
        self.url = url
        self._client = client
        self._patience = patience
        self._ask_login = login
        self._login: Login | None = None
        self._asked = False
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], _Token] = {}
        # What the registry asked for in addition, by what we thought would do.
        self._wider: dict[frozenset[str], frozenset[str]] = {}
        self._lock = threading.Lock()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        tokens = tuple(token.value for token in self._tokens.values())
        return tokens + (self._login.secrets if self._login is not None else ())

    @property
    def was_asked(self) -> bool:
        """Whether the registry has asked who we are."""
        return self._challenge is not None

    @property
    def login_source(self) -> str:
        """Where the login in use was found; "" without one."""
        return (self._login.source or "the caller") if self._login is not None else ""

    def header(self, scopes: frozenset[str]) -> str | None:
        """The header for a request that needs these scopes; None while nothing was asked for."""
        if self._challenge is None:
            return None
        with self._lock:
            login = self._who()
            if self._challenge.scheme == "basic":
                return _basic(login) if login is not None else None
            if login is not None and login.access_token:
                if not _SENDABLE.match(login.access_token):
                    raise Denied(
                        "the login's token has characters that no token has",
                        where=login.source or None,
                        hint="Log in again with `dockyard login`.",
                    )
                return f"Bearer {login.access_token}"
            scopes = self._wider.get(scopes, scopes)
            token = self._tokens.get(scopes)
            if token is None or not token.fresh:
                token = self._tokens[scopes] = self._fetch(self._challenge, scopes, login)
            return f"Bearer {token.value}"

    def meet(self, headers: list[str], scopes: frozenset[str], used: str | None) -> bool:
        """Learn from a 401; whether to try again.

        headers: its WWW-Authenticate; used: the Authorization that it didn't accept.
        """
        challenge = choose_challenge(headers)
        if challenge is None:
            return False
        with self._lock:
            self._challenge = challenge
            login = self._who()
            if challenge.scheme == "basic":
                return login is not None and used != _basic(login)
            if login is not None and login.access_token:
                return used is None
            wanted = self._wider.get(scopes, scopes)
            token = self._tokens.get(wanted)
            if token is not None and used == f"Bearer {token.value}":
                del self._tokens[wanted]
            self._wider[scopes] = merge_scopes(wanted, challenge.scopes)
        return True

    def _who(self) -> Login | None:
        if not self._asked:
            self._login = self._ask_login()
            self._asked = True
        return self._login

    def _fetch(self, challenge: Challenge, scopes: frozenset[str], login: Login | None) -> _Token:
        self._check_realm(challenge.realm)
        started = time.monotonic()
        for attempt in Attempts(shown_url(challenge.realm), self._patience):
            with attempt:
                value = self._ask(challenge, scopes, login)
                token = value.get("token") or value.get("access_token")
                if not isinstance(token, str) or not _SENDABLE.match(token):
                    raise RegistryError(
                        "the token service gave no token", where=shown_url(challenge.realm)
                    )
                lifetime = value.get("expires_in")
                if not isinstance(lifetime, int | float) or lifetime <= 0:
                    lifetime = _LIFETIME
                # A request should still arrive with it.
                return _Token(value=token, expires=started + min(lifetime * 0.8, lifetime - 5))
        raise AssertionError("unreachable: the attempts end with an error")

    def _ask(
        self, challenge: Challenge, scopes: frozenset[str], login: Login | None
    ) -> dict[str, Any]:
        response = None
        if login is not None and login.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": challenge.service,
                "client_id": CLIENT_ID,
                "refresh_token": login.identity_token,
                "scope": " ".join(sorted(scopes)),
            }
            response = self._client.post(challenge.realm, data=form)
            if response.status_code in (404, 405) and login.username:
                response = None
        if response is None:
            params: list[tuple[str, Any]] = []
            if challenge.service:
                params.append(("service", challenge.service))
            params += [("scope", scope) for scope in sorted(scopes)]
            headers = {}
            if login is not None and login.username:
                params.append(("client_id", CLIENT_ID))
                headers["Authorization"] = _basic(login)
            url = self._client.build_request("GET", challenge.realm).url.copy_merge_params(params)
            response = self._client.get(url, headers=headers)
        if response.status_code != 200:
            error = refusal(
                response,
                doing="asking for a token",
                where=shown_url(challenge.realm),
                secrets=login.secrets if login is not None else (),
                login=self.login_source,
            )
            if (
                response.status_code == 400
                and login is not None
                and isinstance(error, RegistryError)
            ):
                # OAuth2 (RFC 6749, 5.2) says 400 of a refresh token that isn't good any more.
                raise Denied(error.what, where=error.where, hint=error.hint)
            raise error
        if len(response.content) > _MOST:
            raise RegistryError("the token is too large", where=shown_url(challenge.realm))
        try:
            value = json.loads(response.content)
        except (ValueError, RecursionError) as error:
            raise RegistryError(
                "the token service's answer isn't JSON", where=shown_url(challenge.realm)
            ) from error
        return value if isinstance(value, dict) else {}

    def _check_realm(self, realm: str) -> None:
        try:
            scheme, host, _ = origin(realm)
        except ValueError:
            scheme = host = ""
        plain_here = self.url.startswith("http://")
        same_host = host == urlsplit(self.url).hostname
        if scheme == "https" or (
            scheme == "http" and plain_here and (same_host or is_loopback(host))
        ):
            return
        raise RegistryError(
            f"the registry wants its tokens fetched from {shown_url(realm)[:200]}, "
            "which would send the login in the clear",
            where=self.url,
            hint="Ask the registry's owner for a token service with HTTPS.",
        )


def merge_scopes(ours: frozenset[str], theirs: frozenset[str]) -> frozenset[str]:
    """Both, with the actions on one thing in one scope: "repository:a:pull,push"."""
    actions: dict[str, set[str]] = {}
    for scope in ours | theirs:
        name, _, listed = scope.rpartition(":")
        actions.setdefault(name, set()).update(listed.split(","))
    return frozenset(f"{name}:{','.join(sorted(each))}" for name, each in actions.items())


def _basic(login: Login) -> str:
    password = login.password or login.identity_token
    return "Basic " + base64.b64encode(f"{login.username}:{password}".encode()).decode()
