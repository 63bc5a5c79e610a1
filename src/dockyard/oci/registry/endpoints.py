"""Where a registry answers: its host, whether plain HTTP will do, which certificates it has.

Rules:
- HTTPS, unless the host is this machine's loopback or was named as insecure. With those HTTPS is
  tried first as well, and HTTP only where no TLS answers.
- A certificate that can't be verified is an error, not a reason for HTTP; only a host that was
  named as insecure may have any.
- CA files beyond the system's: SSL_CERT_FILE, and *.crt of certs.d/HOST[:PORT]/ below
  /etc/docker, /etc/containers, ~/.config/containers and ~/.config/docker; NAME.cert with NAME.key
  there is shown to a registry that asks for a client's certificate.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dockyard.errors import RegistryError
from dockyard.fetch.http import trusted
from dockyard.oci.reference import DEFAULT_DOMAIN
from dockyard.oci.registry.credentials import config_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.oci.registry.settings import Place

_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One host to speak to. server: the name that its logins are kept under."""

    host: str
    server: str
    insecure: bool = False

    @property
    def may_be_plain(self) -> bool:
        """Whether HTTP is allowed."""
        return self.insecure or is_loopback(self.host)


def endpoint_of(place: Place) -> tuple[Endpoint, str]:
    """The endpoint of a place, and the repository's path there."""
    server, _, path = place.location.partition("/")
    host = _HUB_HOST if server == DEFAULT_DOMAIN else server
    return Endpoint(host=host, server=server, insecure=place.insecure), path


def is_loopback(host: str) -> bool:
    """Whether host[:port] is this machine by its loopback interface."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL (RFC 6454): equal for what credentials may be sent to."""
    parts = urlsplit(url)
    default = 80 if parts.scheme == "http" else 443
    return parts.scheme, parts.hostname or "", parts.port or default


def tls_context(
    endpoint: Endpoint, environment: Mapping[str, str], *, root: Path = Path("/")
) -> ssl.SSLContext:
    """What to trust there, and who we are to it."""
    context = trusted(None)
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    user = config_home(environment)
    for base in (
        root / "etc/docker",
        root / "etc/containers",
        user / "containers",
        user / "docker",
    ):
        folder = base / "certs.d" / endpoint.host
        if endpoint.host == _HUB_HOST and not folder.is_dir():
            folder = base / "certs.d" / DEFAULT_DOMAIN
        if folder.is_dir():
            _add_certificates(context, folder)
    return context


def _add_certificates(context: ssl.SSLContext, folder: Path) -> None:
    file = folder
    try:
        for file in sorted(folder.glob("*.crt")):
            context.load_verify_locations(file)
        for file in sorted(folder.glob("*.cert")):
            context.load_cert_chain(file, file.with_suffix(".key"))
    except OSError as error:
        raise RegistryError(
            f"a certificate can't be used: {error.strerror or error}",
            where=str(file),
            hint="*.crt there are CA certificates; a client's NAME.cert needs its NAME.key.",
        ) from error
