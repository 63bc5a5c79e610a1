"""Files and documents from URLs, by way of the cache.

Rules:
- Bytes whose SHA-256 is known are never handed out unchecked, and never written past their
  declared size: a lying server can't fill the disk.
- An interrupted download goes on with Range and If-Range (RFC 9110, 13.1.5 and 14.2). Two
  processes that want the same file: one waits, then finds it.
- file:// URLs and absolute paths are used in place; a checked file is remembered by path, size,
  mtime and inode.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dockyard.errors import FetchError
from dockyard.fetch.http import (
    Again,
    Attempts,
    Opened,
    check_status,
    conditions_of,
    continues,
    redacted,
    status_error,
    trusted,
    validators_of,
)
from dockyard.fetch.partial import Partial
from dockyard.progress import SILENT

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

    import httpx

    from dockyard.cache import Cache
    from dockyard.progress import Reporter, Task

# Below this a download is over before a progress bar can be read.
WORTH_SHOWING = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file to fetch.

    url: http(s)://, file:// or an absolute path, possibly with credentials; sha256: hexadecimal;
    size: bytes; title: what a user calls it, for progress and messages.
    """

    url: str
    sha256: str | None
    size: int | None
    title: str


def _file_key(path: Path, stat: os.stat_result) -> str:
    return _sha256(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}".encode())


def local_path(url: str) -> Path | None:
    """Return the path that a file:// URL or an absolute path means; None for other URLs."""
    if url.startswith("/"):
        return Path(url)
    if url[:5].lower() != "file:":
        return None
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise FetchError(
            "a file: URL can't name another host",
            where=redacted(url),
            hint="Write it as file:///path.",
        )
    return Path(url2pathname(parts.path))


class Fetcher:
    """Fetches files into one cache; may be used from several threads."""

    def __init__(
        self,
        cache: Cache,
        *,
        reporter: Reporter = SILENT,
        offline: bool = False,
        ca_file: Path | None = None,
        parallel: int = 4,
    ) -> None:
        self.cache = cache
        self.offline = offline
        self._reporter = reporter
        self._ca_file = ca_file
        self._parallel = max(1, parallel)
        self._client: httpx.Client | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; the fetcher may still be used afterwards."""
        with self._opening:
            if self._client is not None:
                self._client.close()
                self._client = None

    def cached(self, sha256: str) -> Path | None:
        """Return where the blob with this SHA-256 is in the cache, or None."""
        path = self.cache.blob_path(sha256)
        return path if path.exists() else None

    def fetch(self, downloads: Sequence[Download]) -> list[Path]:
        """Return the files of `downloads`, in their order, fetching what isn't here.

        Raises FetchError naming the first file that can't be had (offline: all of them), and
        CacheError when the cache is full.
        """
        if self.offline:
            self._refuse_missing(downloads)
        jobs: dict[str, Download] = {}
        for download in downloads:
            jobs.setdefault(_key(download), download)
        found: dict[str, Path] = {}
        for key, download in list(jobs.items()):
            path = self.cached(download.sha256) if download.sha256 else None
            path = path or self._known_local(download)
            if path is not None:
                found[key] = path
                del jobs[key]
        if len(jobs) == 1:
            key, download = next(iter(jobs.items()))
            found[key] = self._fetch_one(download, threading.Event())
        elif jobs:
            found |= self._fetch_many(jobs)
        return [found[_key(download)] for download in downloads]

    def read(self, url: str, *, max_size: int, fresh: bool = True) -> bytes:
        """Return a small document of at most `max_size` bytes.

        fresh: ask the server whether the cached copy is still right (ETag); otherwise, and
        offline, a cached copy is returned without asking. Raises FetchError; a StatusError
        when the server refuses.
        """
        path = local_path(url)
        if path is not None:
            return _read_local(path, max_size)
        key = _sha256(redacted(url).encode())
        record, body = self._cached_document(key)
        if body is not None and (self.offline or not fresh):
            return body
        if self.offline:
            raise FetchError(
                "the document isn't in the cache, and the network isn't to be used",
                where=redacted(url),
                hint="Run once without --offline.",
            )
        headers = conditions_of(record) if body is not None else {}
        for attempt in Attempts(redacted(url), threading.Event()):
            with attempt, self._open(url, headers) as response:
                if response.status_code == 304 and body is not None:
                    return body
                check_status(response, url)
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > max_size:
                        raise FetchError(
                            f"the document is larger than {max_size} bytes",
                            where=redacted(url),
                            hint="This isn't the document that was expected; check the URL.",
                        )
                with self.cache.writing_blob() as writer:
                    writer.write(bytes(data))
                self.cache.write_record(
                    "documents", key, {"sha256": writer.hexdigest, **validators_of(response)}
                )
                return bytes(data)
        raise AssertionError("unreachable: the attempts end with an error")

    # One download.

    def _fetch_many(self, jobs: dict[str, Download]) -> dict[str, Path]:
        stop = threading.Event()
        with ThreadPoolExecutor(min(self._parallel, len(jobs))) as pool:
            futures = {pool.submit(self._fetch_one, job, stop): key for key, job in jobs.items()}
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:  # Ctrl-C: the workers must end before the pool can
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            failed = [future for future in done if future.exception() is not None]
            if failed:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                failed[0].result()
            return {key: future.result() for future, key in futures.items()}

    def _fetch_one(self, download: Download, stop: threading.Event) -> Path:
        path = local_path(download.url)
        if path is not None:
            return self._verify_local(path, download)
        key = _key(download)
        with self.cache.lock(f"fetch:{key}"):
            if download.sha256 is not None:
                path = self.cached(download.sha256)
                if path is not None:  # another process had the lock before, and fetched it
                    return path
                return self._download(download, key, {}, stop)
            record = self.cache.read_record("downloads", key)
            here = self.cached(record["sha256"]) if record is not None else None
            if self.offline and here is not None:
                return here
            conditions = conditions_of(record) if here is not None else {}
            return self._download(download, key, conditions, stop)

    def _download(
        self, download: Download, key: str, conditions: dict[str, str], stop: threading.Event
    ) -> Path:
        shown = download.size is None or download.size >= WORTH_SHOWING
        task = (
            self._reporter.task(download.title, total=download.size)
            if shown
            else SILENT.task(download.title)
        )
        mismatch: FetchError | None = None
        with Partial.open(self.cache, key) as partial, task as progress:
            for attempt in Attempts(redacted(download.url), stop):
                with attempt:
                    before = partial.size
                    resumed = before > 0
                    try:
                        answer = self._receive(download, partial, conditions, progress, stop)
                    finally:
                        if partial.size > before:
                            attempt.advanced()
                    if answer == "unchanged":
                        record = self.cache.read_record("downloads", key)
                        return self.cache.blob_path(record["sha256"])
                    sha256 = partial.hexdigest
                    if download.sha256 in (None, sha256):
                        if download.sha256 is None:
                            self.cache.write_record(
                                "downloads", key, {"sha256": sha256, **partial.validators}
                            )
                        return partial.finish(sha256)
                    partial.restart({})
                    wrong = _wrong_bytes(download, sha256)
                    if not resumed or mismatch is not None:
                        raise wrong
                    # The first half may have been of another version: once from the start.
                    mismatch = wrong
                    raise Again(wrong, 0.0)
        raise AssertionError("unreachable: the attempts end with an error")

    def _receive(
        self,
        download: Download,
        partial: Partial,
        conditions: dict[str, str],
        progress: Task,
        stop: threading.Event,
    ) -> str:
        """Stream the (rest of the) file into `partial`; return "unchanged" on a 304."""
        url, expected = download.url, download.size
        if expected is not None and partial.size == expected:
            partial.report(progress)
            return "whole"
        headers = {"Accept-Encoding": "identity", **conditions}
        if partial.size:
            validator = partial.validators.get("etag") or partial.validators.get("last_modified")
            if validator is None and download.sha256 is None:
                partial.restart({})  # nothing could tell whether the halves belong together
            else:
                headers["Range"] = f"bytes={partial.size}-"
                if validator is not None and not validator.startswith("W/"):
                    headers["If-Range"] = validator
        with self._open(url, headers) as response:
            if response.status_code == 304 and conditions:
                return "unchanged"
            if response.status_code == 416:
                total = response.headers.get("content-range", "").rpartition("/")[2]
                if partial.size and total == str(partial.size):
                    return "whole"
                partial.restart({})
                raise Again(status_error(response, url), 0.0)
            check_status(response, url)
            if response.status_code != 206 or not continues(response, partial.size):
                partial.restart(validators_of(response))
                if response.status_code == 206:
                    raise Again(status_error(response, url), 0.0)
            length = response.headers.get("content-length", "")
            if expected is not None and length.isdigit() and partial.size + int(length) != expected:
                offered = partial.size + int(length)
                partial.restart({})
                if response.status_code == 206:
                    raise Again(status_error(response, url), 0.0)
                raise FetchError(
                    f"the server offers {offered} bytes for {download.title}, expected {expected}",
                    where=redacted(url),
                    hint="The file was replaced, or a proxy answers in its place; lock again.",
                )
            for chunk in response.iter_raw():
                if expected is not None and partial.size + len(chunk) > expected:
                    partial.restart({})
                    raise FetchError(
                        f"the server sends more than the {expected} bytes of {download.title}",
                        where=redacted(url),
                        hint="The file was replaced, or a proxy answers in its place; lock again.",
                    )
                partial.write(chunk)
                partial.report(progress)
                if stop.is_set():
                    raise FetchError("the download was stopped", where=redacted(url))
        if expected is not None and partial.size < expected:
            raise Again(
                FetchError(
                    f"the connection ended at byte {partial.size} of {expected}",
                    where=redacted(url),
                    hint="Run again: the download goes on from there.",
                )
            )
        return "whole"

    # Local files, cached documents.

    def _known_local(self, download: Download) -> Path | None:
        """The file of a local URL, if it has been checked before and hasn't changed since."""
        path = local_path(download.url)
        if path is None or download.sha256 is None:
            return None
        try:
            key = _file_key(path, path.stat())
        except OSError:
            return None
        return path if self.cache.read_record("verified", key) == download.sha256 else None

    def _verify_local(self, path: Path, download: Download) -> Path:
        try:
            stat = path.stat()
            if download.size is not None and stat.st_size != download.size:
                raise FetchError(
                    f"the file has {stat.st_size} bytes, expected {download.size}",
                    where=str(path),
                    hint="The file was replaced; lock again.",
                )
            if download.sha256 is None:
                with path.open("rb"):
                    return path
            key = _file_key(path, stat)
            sha256 = self.cache.read_record("verified", key)
            if sha256 is None:
                sha256 = self._hash_local(path, stat.st_size, download.title)
                self.cache.write_record("verified", key, sha256)
        except OSError as error:
            raise FetchError(
                f"the file can't be read: {error.strerror}",
                where=str(path),
                hint="It was there when the lock was made; put it back, or lock again.",
            ) from error
        if sha256 != download.sha256:
            raise _wrong_bytes(download, sha256)
        return path

    def _hash_local(self, path: Path, size: int, title: str) -> str:
        shown = size >= 64 << 20
        digest = hashlib.sha256()
        with (
            path.open("rb", buffering=0) as file,
            self._reporter.task(f"check {title}", total=size) if shown else nullcontext() as task,
        ):
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                if task is not None:
                    task.advance(len(chunk))
        return digest.hexdigest()

    def _cached_document(self, key: str) -> tuple[dict[str, Any], bytes | None]:
        record = self.cache.read_record("documents", key)
        if record is None:
            return {}, None
        try:
            data = self.cache.blob_path(record["sha256"]).read_bytes()
        except OSError:
            return {}, None
        return (record, data) if _sha256(data) == record["sha256"] else ({}, None)

    def _refuse_missing(self, downloads: Sequence[Download]) -> None:
        missing = []
        for download in downloads:
            if local_path(download.url) is not None:
                continue
            sha256 = download.sha256
            if sha256 is None:
                record = self.cache.read_record("downloads", _key(download))
                sha256 = record["sha256"] if record is not None else ""
            if not sha256 or self.cached(sha256) is None:
                missing.append(download.title)
        if missing:
            names = ", ".join(missing[:10])
            if len(missing) > 10:
                names += f" and {len(missing) - 10} more"
            raise FetchError(
                f"not in the cache, and the network isn't to be used: {names}",
                where=str(self.cache.root),
                hint="Run once without --offline.",
            )

    # HTTP.

    def _open(self, url: str, headers: dict[str, str]) -> Opened:
        return Opened(self._http(), url, headers)

    def _http(self) -> httpx.Client:
        with self._opening:
            if self._client is None:
                import httpx

                self._client = httpx.Client(
                    verify=trusted(self._ca_file),
                    timeout=httpx.Timeout(30.0, connect=15.0, pool=None),
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
                    headers={"User-Agent": "dockyard"},
                )
            return self._client


def _wrong_bytes(download: Download, sha256: str) -> FetchError:
    return FetchError(
        f"{download.title} has SHA-256 {sha256}, expected {download.sha256}",
        where=redacted(download.url),
        hint="The file was replaced or tampered with; lock again if you expect that.",
    )


def _read_local(path: Path, max_size: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_size + 1)
    except OSError as error:
        raise FetchError(
            f"the file can't be read: {error.strerror}", where=str(path), hint="Check the path."
        ) from error
    if len(data) > max_size:
        raise FetchError(f"the file is larger than {max_size} bytes", where=str(path))
    return data


def _key(download: Download) -> str:
    """The name under which processes agree on a download.

    Two local paths with the same bytes stay two: each must be checked.
    """
    if local_path(download.url) is not None:
        return _sha256(f"{download.url}\0{download.sha256}".encode())
    if download.sha256 is not None:
        return download.sha256
    return _sha256(redacted(download.url).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
