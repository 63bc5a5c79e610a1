"""One blob's way into a repository (distribution-spec "Pushing Blobs").

    POST uploads/?mount=…&from=…   201: taken over from another repository; 202: an upload begins
    POST uploads/                  202, Location
    PATCH Location                 202, Location: the bytes, streamed, in one piece if it will do
    PUT Location?digest=…          201: checked by the registry, and there
    GET Location                   204, Range: how much of it the registry has

Rules:
- A small blob goes with the PUT. A large one is streamed by PATCH; after a failure the registry is
  asked how much it has, and the rest follows. What it has forgotten begins anew.
- A registry that takes no PATCH gets one PUT; one that finds it too large gets smaller pieces.
- The upload's Location is remembered in the cache, so that a push that was killed goes on there.
- After an unclear end (the connection broke during the PUT) the blob may be there: it is asked for.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from dockyard.errors import RegistryError
from dockyard.oci.registry.api import Denied
from dockyard.oci.registry.attempts import WORTH_A_TRY, Again, Attempts
from dockyard.oci.registry.connection import Answer, Request
from dockyard.oci.registry.reading import BlobReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from dockyard.cache import Cache
    from dockyard.oci.descriptor import Descriptor
    from dockyard.oci.layer import Blob
    from dockyard.oci.registry.connection import Connection

SMALL = 1 << 20  # goes in one request
_PIECE = 16 << 20  # where a whole blob is too large for one request
_LEAST_PIECE = 1 << 20
_WORTH_KEEPING = 8 << 20
_RECORD = "uploads"
_RANGE = re.compile(r"(?:bytes[= ])?0-(\d+)\Z")
_OCTETS = "application/octet-stream"
# Answers of those that don't know a PATCH, or want no stream.
_NO_PATCH = frozenset({400, 404, 405, 411, 415, 501})


class BlobUpload:
    """The upload of one blob, from its beginning to its end."""

    def __init__(
        self,
        *,
        connection: Connection,
        path: str,
        name: str,
        descriptor: Descriptor,
        cache: Cache | None,
    ) -> None:
        """path: the repository's; name: what messages call it."""
        self._connection = connection
        self._path = path
        self._name = name
        self._descriptor = descriptor
        self._cache = cache if descriptor.size >= _WORTH_KEEPING else None
        self._location: str | None = None
        self._offset = 0
        self._clear = True  # whether _offset is known to be what the registry has
        self._from_before = False  # whether _location was begun by another process
        self._shown = 0
        self._piece = 0  # 0: all in one request
        self._patches = descriptor.size > SMALL
        self._begun_again = 0
        self._reader: BlobReader | None = None

    def mount(self, from_path: str) -> bool:
        """Ask for the blob of another repository; a refusal begins an upload, which `send` uses."""
        query = f"?mount={self._descriptor.digest}&from={quote(from_path, safe='/')}"
        scopes = self._scopes | {f"repository:{from_path}:pull"}
        request = self._request("POST", self._uploads + query, "mounting a blob", scopes=scopes)
        good = (201, 202, 400, 401, 403, 404, 405, 501)
        try:
            answer = self._connection.ask(request, good=good)
        except Denied:  # a token service may refuse the other repository altogether
            return False
        assert answer is not None
        if answer.status == 201:
            return True
        if answer.status == 202 and self._location is None:
            self._location = self._connection.location(answer)
        return False

    def abandon(self) -> None:
        """Tell the registry that an upload won't go on, if one has begun; it may not care."""
        if self._location is None:
            return
        request = self._request("DELETE", self._location, "ending an upload")
        self._location = None
        self._connection.ask(request, good=range(200, 500))

    def send(self, blob: Blob, advance: Callable[[int], None]) -> None:
        """Upload the blob's bytes; raises RegistryError when the registry won't have them."""
        if self._location is None:
            self._location = self._remembered()
            self._clear = self._location is None
            self._from_before = not self._clear
        attempts = Attempts(self._connection.where(self._uploads), self._connection.patience)
        for attempt in attempts:
            before = self._offset
            try:
                with attempt:
                    self._try(blob, advance)
                    self._forget()
                    return
            finally:
                if self._offset - before >= WORTH_A_TRY:
                    attempt.advanced()

    def _try(self, blob: Blob, advance: Callable[[int], None]) -> None:
        if self._location is None:
            self._begin()
        elif not self._clear:
            try:
                self._ask_how_far()
            except RegistryError:
                # Another process's upload may be anywhere; only ours has to be reached.
                if not self._from_before:
                    raise
                self._begin_again()
            self._from_before = False
            if self._location is None:
                if self._is_there():
                    return
                self._begin()
        self._clear = False
        if self._patches:
            while self._offset < self._descriptor.size:
                self._patch(blob, advance)
                if not self._patches:
                    break
        self._put(blob, advance)

    @property
    def _uploads(self) -> str:
        return f"/v2/{self._path}/blobs/uploads/"

    @property
    def _scopes(self) -> frozenset[str]:
        return frozenset({f"repository:{self._path}:pull,push"})

    def _request(self, method: str, url: str, doing: str, **more: Any) -> Request:
        more.setdefault("scopes", self._scopes)
        return Request(method=method, url=url, doing=f"{doing} to {self._name}", **more)

    def _begin(self) -> None:
        answer = self._connection.ask(
            self._request("POST", self._uploads, "beginning an upload"), good=(202, 200)
        )
        assert answer is not None
        self._location = self._connection.location(answer)
        self._offset = 0
        self._clear = True
        self._remember()

    def _ask_how_far(self) -> None:
        """Find out where to go on; without an upload that the registry knows, forget it."""
        assert self._location is not None
        request = self._request("GET", self._location, "asking how far an upload is")
        answer = self._connection.ask(request, good=range(200, 500))
        assert answer is not None
        has = _end(answer.headers) if answer.status in (200, 204) else None
        if has is None or has > self._descriptor.size:
            self._begin_again()
            return
        if answer.headers.get("location"):
            self._location = self._connection.location(answer)
        self._offset = has
        self._clear = True

    def _begin_again(self) -> None:
        self._begun_again += 1
        self._location = None
        self._offset = 0
        self._forget()

    def _is_there(self) -> bool:
        url = f"/v2/{self._path}/blobs/{self._descriptor.digest}"
        request = self._request("HEAD", url, "asking for a blob")
        return self._connection.ask(request, good=(200,), absent_ok=True) is not None

    def _patch(self, blob: Blob, advance: Callable[[int], None]) -> None:
        """Send the rest, or the next piece of it."""
        assert self._location is not None
        start = self._offset
        rest = self._descriptor.size - start
        size = min(rest, self._piece) if self._piece else rest
        headers = {"Content-Type": _OCTETS}
        if start or size < self._descriptor.size:
            headers["Content-Range"] = f"{start}-{start + size - 1}"
        request = self._request(
            "PATCH",
            self._location,
            "uploading a blob",
            headers=headers,
            body=lambda: self._bytes(blob, start, size, advance),
            size=size,
        )
        with self._connection.exchange(request) as response:
            status = response.status_code
            if status in (202, 200, 201, 204):
                self._sent(response, start + size)
                return
            if status == 413 and self._piece != _LEAST_PIECE:
                self._piece = max(_LEAST_PIECE, (self._piece or _PIECE * 2) // 2)
                raise Again(self._error(response, request), 0.0)
            if status in _NO_PATCH and not start and not self._piece:
                # Not every registry has chunked uploads: the next way is one PUT.
                self._patches = False
                self._begin_again()
                raise Again(self._error(response, request), 0.0)
            if status == 416 or (status == 404 and start):
                if self._begun_again > 1:
                    raise self._error(response, request)
                raise Again(self._error(response, request), 0.0)
            raise self._connection.refusal(response, request)

    def _sent(self, response: httpx.Response, end: int) -> None:
        """Believe the registry's own count of what it has."""
        answer = Answer(
            status=response.status_code, url=str(response.url), headers=response.headers
        )
        if response.headers.get("location"):
            self._location = self._connection.location(answer)
        has = _end(response.headers)
        if has is not None and has > end:
            self._begin_again()
            raise Again(
                RegistryError("the registry counts more bytes than were sent", where=self._name),
                0.0,
            )
        progressed = has is None or has > self._offset
        self._offset = end if has is None else has
        if not progressed:
            raise Again(RegistryError("the registry took none of the bytes sent", where=self._name))
        self._remember()

    def _put(self, blob: Blob, advance: Callable[[int], None]) -> None:
        """Close the upload, with what of the bytes it lacks."""
        assert self._location is not None
        start = self._offset
        size = self._descriptor.size - start
        parts = urlsplit(self._location)
        query = f"{parts.query}&" if parts.query else ""
        url = urlunsplit(parts._replace(query=f"{query}digest={self._descriptor.digest}"))
        headers = {"Content-Type": _OCTETS}
        if start and size:
            headers["Content-Range"] = f"{start}-{self._descriptor.size - 1}"
        request = self._request(
            "PUT",
            url,
            "uploading a blob",
            headers=headers,
            body=lambda: self._bytes(blob, start, size, advance),
            size=size,
        )
        with self._connection.exchange(request) as response:
            if response.status_code in (201, 200, 202, 204):
                self._check(response)
                return
            error = self._connection.refusal(response, request)
            # A resumed upload may have been made of two halves that don't fit.
            if response.status_code in (400, 404, 416) and not self._begun_again:
                self._begin_again()
                raise Again(self._as_error(error), 0.0)
            raise error

    def _check(self, response: httpx.Response) -> None:
        named = response.headers.get("docker-content-digest")
        if named and named != str(self._descriptor.digest):
            raise RegistryError(
                f"the registry stored {named[:100]} where {self._descriptor.digest} was sent",
                where=self._name,
                hint="A proxy may answer in its place, or the registry is damaged.",
            )

    def _bytes(
        self, blob: Blob, start: int, size: int, advance: Callable[[int], None]
    ) -> Iterator[bytes]:
        """The blob's bytes from start; raises ImageError before all of a wrong blob is sent."""
        if self._reader is None or self._reader.position > start:
            self._reader = BlobReader(blob, self._descriptor)
        reached = start
        for piece in self._reader.read(start, size):
            self._connection.patience.check()
            yield piece
            reached += len(piece)
            if reached > self._shown:
                advance(reached - self._shown)
                self._shown = reached

    def _error(self, response: httpx.Response, request: Request) -> RegistryError:
        return self._as_error(self._connection.refusal(response, request))

    @staticmethod
    def _as_error(error: RegistryError | Again) -> RegistryError:
        return error.error if isinstance(error, Again) else error

    # What the next process needs.

    @property
    def _key(self) -> str:
        return hashlib.sha256(f"{self._name}\0{self._descriptor.digest}".encode()).hexdigest()

    def _remembered(self) -> str | None:
        record = self._cache.read_record(_RECORD, self._key) if self._cache is not None else None
        location = record.get("location") if isinstance(record, dict) else None
        return location if isinstance(location, str) else None

    def _remember(self) -> None:
        if self._cache is not None:
            self._cache.write_record(_RECORD, self._key, {"location": self._location})

    def _forget(self) -> None:
        if self._cache is not None and self._cache.read_record(_RECORD, self._key):
            self._cache.write_record(_RECORD, self._key, {})


def _end(headers: httpx.Headers) -> int | None:
    """How many bytes a Range header says are there; "0-0" is what registries say of none."""
    match = _RANGE.match(headers.get("range", ""))
    if match is None:
        return None
    last = int(match[1])
    return last + 1 if last else 0
