"""Blobs out of a registry: streamed, counted, hashed, and gone on with where a connection broke.

Rules:
- No byte past the descriptor's size is passed on, and the end isn't reached unless the digest is
  right: who reads all of a blob has the right bytes, or an error.
- A broken connection is taken up with Range (RFC 9110, 14.2); where a registry ignores that, what
  was there is read past. A mirror that sends wrong bytes can't be taken back once they were passed
  on, so what follows a mirror's first byte is from the mirror, or an error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dockyard.errors import RegistryError
from dockyard.oci.registry.attempts import WORTH_A_TRY, Again, Attempts
from dockyard.oci.registry.refusals import shown_url

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import httpx

    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.digest import Digest
    from dockyard.oci.registry.connection import Connection, Request


class HasBlobs(Protocol):
    """The part of a repository that downloads need."""

    @property
    def domain(self) -> str:
        """The registry."""

    @property
    def path(self) -> str:
        """The repository there."""

    @property
    def stop(self) -> threading.Event:
        """While it is set, what is being transferred ends with an error."""

    def blob_requests(self, digest: Digest) -> list[tuple[Connection, Request]]:
        """How the blob is got, one way after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBlob:
    """A blob of a registry, downloaded each time that it is read."""

    repository: HasBlobs
    descriptor: Descriptor

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes; raises RegistryError when they can't be had or aren't the right ones."""
        state = hashlib.new(self.descriptor.digest.algorithm)
        for chunk in self.chunks_from(0):
            state.update(chunk)
            yield chunk
        if state.hexdigest() != self.descriptor.digest.hex:
            raise wrong_blob(self.descriptor, state.hexdigest(), str(self.repository))

    def chunks_from(self, offset: int, *, past: int = 0) -> Iterator[bytes]:
        """Yield the bytes from offset on, counted but not hashed.

        past: how many of the ways to get it (mirrors first) are to be left out.
        """
        ways = self.repository.blob_requests(self.descriptor.digest)[past:]
        for number, (connection, request) in enumerate(ways):
            passed_on = False
            try:
                for chunk in _download(connection, request, self.descriptor, offset):
                    passed_on = True
                    yield chunk
                return
            except RegistryError:
                if passed_on or number == len(ways) - 1:
                    raise


def wrong_blob(descriptor: Descriptor, found: str, where: str) -> RegistryError:
    """The error for bytes with another digest."""
    return RegistryError(
        f"the registry sent a blob with digest {descriptor.digest.algorithm}:{found}, "
        f"expected {descriptor.digest}",
        where=where,
        hint="A proxy may answer in its place, or the registry is damaged; try again, "
        "and tell its owner if it stays so.",
    )


def _download(
    connection: Connection, request: Request, descriptor: Descriptor, offset: int
) -> Iterator[bytes]:
    from dataclasses import replace

    where = connection.where(request.url)
    attempts = Attempts(where, connection.patience)
    for attempt in attempts:
        if offset == descriptor.size:
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with attempt, connection.exchange(replace(request, headers=headers)) as response:
            if response.status_code not in (200, 206):
                raise connection.refusal(response, request)
            start, before = _starts_at(response, offset), offset
            _check_length(response, descriptor, start)
            for chunk in response.iter_raw():
                connection.patience.check()
                skip = min(len(chunk), offset - start)
                start += len(chunk)
                piece = chunk[skip:]
                if offset + len(piece) > descriptor.size:
                    raise RegistryError(
                        f"the registry sends more than the {descriptor.size} bytes of "
                        f"{descriptor.digest}",
                        where=where,
                    )
                if piece:
                    offset += len(piece)
                    if offset - before >= WORTH_A_TRY:
                        attempt.advanced()
                    yield piece
            if offset < descriptor.size:
                raise Again(
                    RegistryError(
                        f"the registry's answer ended at byte {offset} of {descriptor.size}",
                        where=where,
                        hint="Run again; what was transferred is kept.",
                    )
                )
            return


def _starts_at(response: httpx.Response, offset: int) -> int:
    """Where the response's bytes begin."""
    if response.status_code == 200:
        return 0
    content_range: str = response.headers.get("content-range", "")
    if not content_range.startswith(f"bytes {offset}-"):
        raise RegistryError(
            f"the registry answers a request for bytes from {offset} with others",
            where=shown_url(str(response.url)),
        )
    return offset


def _check_length(response: httpx.Response, descriptor: Descriptor, start: int) -> None:
    length = response.headers.get("content-length", "")
    if length.isdigit() and start + int(length) != descriptor.size:
        raise RegistryError(
            f"the registry offers {start + int(length)} bytes for {descriptor.digest}, "
            f"which has {descriptor.size}",
            where=shown_url(str(response.url)),
            hint="The manifest or the registry lies about the size; tell its owner.",
        )
