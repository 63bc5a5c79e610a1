"""Find the engine that answers: as Docker's command line would, then Podman's socket, else our own.

Rules: an engine that was named (DOCKER_HOST, DOCKER_CONTEXT, the current context) is the only one
tried; its silence is an error, never a reason to use another. Otherwise the usual sockets are
tried in turn, and where none answers the local engine is used, if this machine lets it run.
DOCKYARD_ENGINE decides otherwise: "local" takes it at once, "docker" never. Every failure says
what was tried and why each didn't answer.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dockyard.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.tls import TLSConfig

    from dockyard.engine.docker import DockerEngine
    from dockyard.engine.local import LocalEngine

    FoundEngine = DockerEngine | LocalEngine

_FIRST_ANSWER = 10  # Seconds.

_START = (
    "Start Docker (systemctl start docker) or Podman's socket "
    "(systemctl --user start podman.socket), or name an engine in DOCKER_HOST."
)
_REASONS = {
    errno.ENOENT: "no such socket",
    errno.ECONNREFUSED: "nobody listens",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an engine may answer; origin says who named it."""

    host: str
    origin: str
    tls_folder: Path | None = None
    tls_verify: bool = True

    @property
    def address(self) -> str:
        """The host on which the engine publishes ports, seen from here."""
        name = urlsplit(self.host).hostname
        return "127.0.0.1" if name in (None, "", "localhost") else str(name)


def find_engine(environ: Mapping[str, str] | None = None) -> FoundEngine:
    """Connect to the engine to use; raises EngineError when there is none."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("DOCKYARD_ENGINE", "")
    if chosen not in ("", "local", "docker"):
        raise UsageError(
            f"DOCKYARD_ENGINE is {chosen!r}", hint='It may be "local" or "docker", or be absent.'
        )
    if chosen == "local":
        return _local_engine()
    named = named_endpoint(environ)
    endpoints = [named] if named is not None else usual_endpoints(environ)
    failures: list[str] = []
    for endpoint in endpoints:
        reason = _why_silent(endpoint.host)
        if reason is None:
            try:
                return _connect(endpoint)
            except _NoAnswer as error:
                reason = str(error)
        failures.append(f"{endpoint.host} ({endpoint.origin}): {reason}")
    if named is None and not chosen:
        reason = why_no_local()
        if not reason:
            return _local_engine()
        failures.append(f"the local engine: {reason}")
    if any("permission denied" in failure for failure in failures):
        hint = "Add yourself to the group `docker` and log in again, or use rootless Podman."
    elif named is not None:
        hint = f"Start it, or change what names it: {named.origin}."
    else:
        hint = _START
    if named is not None:
        raise EngineError("the container engine doesn't answer", where=failures[0], hint=hint)
    tried = "\n".join(f"tried {failure}" for failure in failures)
    raise EngineError("no container engine answers", hint=f"{hint}\n{tried}")


def why_no_local() -> str:
    """Why the local engine can't run on this machine, or ""."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    from dockyard.engine.local.probe import why_not
    from dockyard.engine.local.store import LocalStore

    try:
        return why_not(LocalStore())
    except (EngineError, OSError) as error:
        return str(error)


def _local_engine() -> LocalEngine:
    from dockyard.engine.local import LocalEngine

    return LocalEngine()


def named_endpoint(environ: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that the environment or Docker's configuration names, or None."""
    folder = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if host := environ.get("DOCKER_HOST"):
        # Docker takes any non-empty DOCKER_TLS_VERIFY as yes.
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        certificates = environ.get("DOCKER_CERT_PATH")
        use_tls = verify or bool(certificates)
        return Endpoint(
            host=host,
            origin="DOCKER_HOST",
            tls_folder=Path(certificates or folder) if use_tls else None,
            tls_verify=verify,
        )
    if name := environ.get("DOCKER_CONTEXT"):
        origin = "DOCKER_CONTEXT"
    else:
        name, origin = _current_context(folder), f"the current context in {folder / 'config.json'}"
    return None if name in ("", "default") else _read_context(folder, name, origin)


def usual_endpoints(environ: Mapping[str, str]) -> list[Endpoint]:
    """The sockets where engines listen by default, in the order they are tried."""
    home = Path.home()
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    sockets = [
        ("Docker", Path("/var/run/docker.sock")),
        ("rootless Docker", runtime / "docker.sock"),
        ("Docker Desktop", home / ".docker/run/docker.sock"),
        ("Docker Desktop", home / ".docker/desktop/docker.sock"),
        ("rootless Podman", runtime / "podman/podman.sock"),
        ("Podman", Path("/run/podman/podman.sock")),
    ]
    found = [Endpoint(host=f"unix://{path}", origin=origin) for origin, path in sockets]
    if host := environ.get("CONTAINER_HOST"):
        found.insert(4, Endpoint(host=host, origin="CONTAINER_HOST"))
    # Sockets that aren't there say nothing a person could use, but for the first.
    return [e for e in found if e.host == found[0].host or not _is_absent(e.host)]


def _is_absent(host: str) -> bool:
    return host.startswith("unix://") and not Path(host.removeprefix("unix://")).exists()


def _current_context(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return ""
    name = config.get("currentContext") if isinstance(config, dict) else None
    return name if isinstance(name, str) else ""


def _read_context(folder: Path, name: str, origin: str) -> Endpoint:
    """Read a context from Docker's store: contexts/meta/<sha256 of its name>/meta.json."""
    key = hashlib.sha256(name.encode()).hexdigest()
    path = folder / "contexts" / "meta" / key / "meta.json"
    try:
        docker = json.loads(path.read_bytes())["Endpoints"]["docker"]
        host, skip_verify = str(docker["Host"]), bool(docker.get("SkipTLSVerify"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the Docker context {name!r} can't be read",
            where=f"{origin}: {path}",
            hint="See `docker context ls`; choose one with `docker context use`.",
        ) from error
    tls = folder / "contexts" / "tls" / key / "docker"
    return Endpoint(
        host=host,
        origin=f"the context {name!r}",
        tls_folder=tls if tls.is_dir() else None,
        tls_verify=not skip_verify,
    )


def _why_silent(host: str) -> str | None:
    """Why a Unix socket doesn't answer, in a person's words; None when it does or isn't one."""
    if not host.startswith("unix://"):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_FIRST_ANSWER)
        try:
            probe.connect(host.removeprefix("unix://"))
        except OSError as error:
            return _REASONS.get(error.errno or 0, error.strerror or str(error))
    return None


class _NoAnswer(Exception):
    """An endpoint that doesn't speak the Engine API."""


def _connect(endpoint: Endpoint) -> DockerEngine:
    import docker
    import requests
    from docker.errors import DockerException

    from dockyard.engine.docker import DockerEngine

    try:
        api = docker.APIClient(
            base_url=endpoint.host,
            version="auto",
            timeout=_FIRST_ANSWER,
            tls=_tls_config(endpoint),
            use_ssh_client=True,
        )
    except (DockerException, requests.RequestException, OSError, ValueError) as error:
        raise _NoAnswer(_last_cause(error)) from error
    return DockerEngine(api, address=endpoint.address)


def _tls_config(endpoint: Endpoint) -> TLSConfig | bool:
    folder = endpoint.tls_folder
    if folder is None:
        return False
    from docker.tls import TLSConfig

    certificate, key, authority = (folder / f"{name}.pem" for name in ("cert", "key", "ca"))
    both = certificate.exists() and key.exists()
    return TLSConfig(
        client_cert=(str(certificate), str(key)) if both else None,
        ca_cert=str(authority) if authority.exists() else None,
        verify=endpoint.tls_verify,
    )


def _last_cause(error: BaseException) -> str:
    """The innermost reason: docker-py wraps the operating system's words four times."""
    seen = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    text = seen.strerror if isinstance(seen, OSError) and seen.strerror else str(seen)
    return (text or type(seen).__name__).splitlines()[0]
