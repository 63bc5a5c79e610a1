"""Users' credentials for registries, where Docker, Podman and their helpers keep them.

Looked for in this order; the first file with something for the registry rules:

    $REGISTRY_AUTH_FILE                        as Podman, Skopeo and Buildah have it
    $DOCKER_CONFIG/config.json                 else ~/.docker/config.json
    $XDG_RUNTIME_DIR/containers/auth.json      else /run/containers/UID/auth.json
    $XDG_CONFIG_HOME/containers/auth.json      else ~/.config/containers/auth.json

Rules:
- Within a file: the helper that `credHelpers` names for the registry, else `credsStore`, else
  `auths`. A key may name a repository ("quay.io/team"); the longest that fits wins.
- docker.io is known as https://index.docker.io/v1/, as `docker login` writes it.
- A secret is in no repr and no message.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dockyard.errors import RegistryError
from dockyard.oci.reference import DEFAULT_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DOCKER_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_TOKEN_USER = "<token>"  # noqa: S105  what helpers answer as the user of an identity token
_HELPER_SECONDS = 60.0
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """User and password, or an identity token (OAuth2's refresh token), or a ready access token.

    source says where it was found, for messages.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    source: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return tuple(
            text for text in (self.password, self.identity_token, self.access_token) if text
        )


class Credentials(Protocol):
    """Where logins come from."""

    def login(self, domain: str, path: str) -> Login | None:
        """The user's login for a repository; None: nobody in particular."""


class NoCredentials:
    """Nobody in particular, everywhere."""

    def login(self, domain: str, path: str) -> Login | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCredentials:
    """Logins by registry, given by the caller; nothing else is asked."""

    logins: Mapping[str, Login]

    def login(self, domain: str, path: str) -> Login | None:
        """The registry's login."""
        return self.logins.get(domain)


class UserCredentials:
    """The user's own, as the module says; each helper and file is asked once per registry."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._known: dict[tuple[str, str], Login | None] = {}

    def login(self, domain: str, path: str) -> Login | None:
        """The user's login for a repository.

        Raises RegistryError when a file or helper that should know can't be used.
        """
        key = (domain, path)
        if key not in self._known:
            self._known[key] = self._find(domain, path)
        return self._known[key]

    def _find(self, domain: str, path: str) -> Login | None:
        for file in auth_files(self._environment):
            document = read_auth_file(file)
            if document is not None and (login := _from_file(document, file, domain, path)):
                return login
        return None


def auth_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files that may hold logins, whether they are there or not."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named).expanduser()
    yield docker_config_file(environment)
    runtime = environment.get("XDG_RUNTIME_DIR")
    yield Path(runtime or f"/run/containers/{os.getuid()}") / (
        "containers/auth.json" if runtime else "auth.json"
    )
    yield config_home(environment) / "containers/auth.json"


def docker_config_file(environment: Mapping[str, str]) -> Path:
    """Docker's configuration of this user."""
    folder = environment.get("DOCKER_CONFIG")
    base = Path(folder).expanduser() if folder else _home(environment) / ".docker"
    return base / "config.json"


def config_home(environment: Mapping[str, str]) -> Path:
    """Where this user's programs keep their settings (XDG base directory specification)."""
    named = environment.get("XDG_CONFIG_HOME")
    return Path(named) if named else _home(environment) / ".config"


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("HOME")
    return Path(home) if home else Path.home()


def read_auth_file(path: Path) -> dict[str, Any] | None:
    """The file's JSON object; None when there is no such file."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RegistryError(
            f"the file with registries' logins can't be read: {error.strerror}",
            where=str(path),
            hint="Make it readable for you, or name another one in REGISTRY_AUTH_FILE.",
        ) from error
    try:
        value = json.loads(text or b"{}")
    except ValueError as error:
        raise _damaged(path, "isn't valid JSON") from error
    if not isinstance(value, dict):
        raise _damaged(path, "isn't a JSON object")
    for key in ("auths", "credHelpers"):
        if not isinstance(value.get(key) or {}, dict):
            raise _damaged(path, f"has no object at {key!r}")
    return value


def server_names(domain: str, path: str) -> list[str]:
    """The keys that a login for the repository may have, the most particular first."""
    parts = path.split("/") if path else []
    names = ["/".join([domain, *parts[:count]]) for count in range(len(parts), -1, -1)]
    if domain == DEFAULT_DOMAIN:
        names += [DOCKER_HUB, *sorted(_HUB_NAMES)]
    return names


def helper_for(document: Mapping[str, Any], domain: str) -> str | None:
    """The credential helper that the file wants asked for the registry."""
    helpers = document.get("credHelpers") or {}
    for name in server_names(domain, ""):
        if isinstance(helpers.get(name), str) and helpers[name]:
            return str(helpers[name])
    store = document.get("credsStore")
    return store if isinstance(store, str) and store else None


def server_key(domain: str) -> str:
    """The name that helpers and `auths` know the registry by."""
    return DOCKER_HUB if domain == DEFAULT_DOMAIN else domain


def _from_file(document: Mapping[str, Any], file: Path, domain: str, path: str) -> Login | None:
    helper = helper_for(document, domain)
    if helper is not None and (login := ask_helper(helper, server_key(domain), file)) is not None:
        return login
    auths = {bare_name(str(key)): value for key, value in (document.get("auths") or {}).items()}
    for name in server_names(domain, path):
        value = auths.get(bare_name(name))
        if isinstance(value, dict) and (login := _from_entry(value, file, name)) is not None:
            return login
    return None


def bare_name(name: str) -> str:
    """An `auths` key as host[/path]; old files have "https://host/v1/"."""
    for scheme in ("https://", "http://"):
        if name.startswith(scheme):
            name = name.removeprefix(scheme)
            for suffix in ("/v1/", "/v2/", "/v1", "/v2"):
                name = name.removesuffix(suffix)
    return name.rstrip("/")


def _from_entry(value: Mapping[str, Any], file: Path, name: str) -> Login | None:
    username, password = str(value.get("username") or ""), str(value.get("password") or "")
    if packed := value.get("auth"):
        try:
            text = base64.b64decode(str(packed), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _damaged(file, f"has an entry for {name} that isn't base64") from error
        username, colon, password = text.partition(":")
        if not colon:
            raise _damaged(file, f"has an entry for {name} without a password")
        password = password.rstrip("\0")
    identity, access = str(value.get("identitytoken") or ""), str(value.get("registrytoken") or "")
    if not (username or identity or access):
        return None
    return Login(
        username=username,
        password=password,
        identity_token=identity,
        access_token=access,
        source=str(file),
    )


def _damaged(file: Path, how: str) -> RegistryError:
    return RegistryError(
        f"the file with registries' logins {how}",
        where=str(file),
        hint="Repair it, or remove it and log in again with `dockyard login`.",
    )


def ask_helper(helper: str, server: str, file: Path) -> Login | None:
    """What docker-credential-HELPER keeps for the server; None when it keeps nothing."""
    answer = run_helper(helper, "get", server, file)
    if answer is None:
        return None
    try:
        value = json.loads(answer)
        username, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"docker-credential-{helper} gave no login that can be read", where=str(file)
        ) from error
    source = f"docker-credential-{helper}"
    if username == _TOKEN_USER:
        return Login(identity_token=secret, source=source)
    return Login(username=username, password=secret, source=source) if username or secret else None


def run_helper(helper: str, verb: str, stdin: str, file: Path) -> str | None:
    """Run docker-credential-HELPER; its output, or None when it keeps nothing for the server.

    file: who names the helper. Raises RegistryError when it is absent or fails.
    """
    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise RegistryError(f"{helper!r} is no credential helper's name", where=str(file))
    try:
        done = subprocess.run(
            [program, verb],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise RegistryError(
            f"the credential helper {program} isn't installed",
            where=str(file),
            hint="Install it, or take it out of `credsStore` and `credHelpers` there.",
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(
            f"the credential helper {program} can't be run: {_reason(error)}", where=str(file)
        ) from error
    if done.returncode == 0:
        return done.stdout
    # docker-credential-helpers say on stdout what went wrong, and this when there is nothing.
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()[:1]
    if said and said[0].lower().startswith(_NOT_FOUND):
        return None
    detail = said[0][:200] if said and verb != "store" else f"exit code {done.returncode}"
    raise RegistryError(
        f"the credential helper {program} failed to {verb}: {detail}", where=str(file)
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {_HELPER_SECONDS:.0f} s"
    return getattr(error, "strerror", None) or type(error).__name__
