"""The connection to an engine, which its parts share; foreign errors are translated here.

Rules: requests that answer at once have a time limit, those that stream have none. A connection
that broke is said to be broken; the next request makes a new one.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import docker.errors
import requests
import urllib3.exceptions

from dockyard.engine.refusals import explain
from dockyard.engine.state import EngineInfo, LostEngineError
from dockyard.errors import EngineError
from dockyard.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import APIClient

ANSWER = 60
"""Seconds for requests that don't stream."""

_OLDEST = (1, 41)  # Docker 20.10.


class Linked:
    """A part of an engine: what it needs to ask the engine something."""

    def __init__(self, api: APIClient, *, address: str = "127.0.0.1") -> None:
        self._api = api
        self._api.timeout = ANSWER
        self._address = address

    @cached_property
    def info(self) -> EngineInfo:
        """Which engine it is; raises EngineError when it is too old."""
        with translated("the engine"):
            version = self._api.version()
            details: dict[str, Any] = self._api.info()
        podman = any(
            part.get("Name") == "Podman Engine" for part in version.get("Components") or ()
        )
        spoken = tuple(int(part) for part in str(version["ApiVersion"]).split("."))
        if spoken < _OLDEST and not podman:
            raise EngineError(
                f"Docker {version['Version']} is too old", hint="Docker 20.10 or newer is needed."
            )
        # Docker with containerd's image store wants every blob in an archive.
        containerd = "io.containerd.snapshotter" in str(details.get("DriverStatus"))
        return EngineInfo(
            kind="podman" if podman else "docker",
            version=str(version["Version"]),
            architecture=architecture_of(str(version.get("Arch") or "")),
            address=self._address,
            partial_loads=not podman and not containerd,
            cpus=int(details.get("NCPU") or 1),
            log_driver=str(details.get("LoggingDriver") or ""),
        )

    @property
    def _is_podman(self) -> bool:
        return self.info.kind == "podman"

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request whose answer may take for ever; docker-py's own are limited or unsplit."""
        url = f"{self._api.base_url}/v{self._api.api_version}{path}"
        options.setdefault("timeout", (ANSWER, None))
        return self._api.request(method, url, **options)

    def _ask(self, method: str, path: str, where: str, **options: Any) -> requests.Response:
        """A request that is answered at once; a refusal is explained."""
        options.setdefault("timeout", ANSWER)
        response = self._request(method, path, **options)
        if not response.ok:
            raise explain(message_of(response), where=where)
        return response


def message_of(response: requests.Response) -> str:
    """The engine's own words for a refusal."""
    try:
        return str(response.json().get("message") or response.text)
    except (ValueError, AttributeError):
        return response.text or response.reason


def architecture_of(name: str) -> str:
    """The image-spec's word for an architecture; unknown ones stay as they are."""
    from dockyard.errors import ImageError

    try:
        return Platform.parse(name).architecture
    except ImageError:
        return name


class Source:
    """Chunks on their way to the engine; remembers what their maker raised.

    requests reports any OSError as its own connection error, which would hide a full disk here.
    """

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes | memoryview]:
        try:
            for chunk in self._chunks:
                if chunk:  # An empty chunk would end the chunked body.
                    yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def translated(where: str, source: Source | None = None) -> Iterator[None]:
    """Turn what docker-py, requests and urllib3 raise into EngineError."""
    try:
        yield
    except docker.errors.APIError as error:
        raise explain(str(error.explanation or error), where=where) from error
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        docker.errors.DockerException,
        OSError,
    ) as error:
        if source is not None and source.failure is not None:
            raise source.failure from None
        late = isinstance(error, requests.Timeout)
        raise LostEngineError(
            "the engine doesn't answer in time" if late else "the connection to the engine broke",
            where=where,
            hint="Is the engine still running? `dockyard version` asks it.",
        ) from error
