"""Making a plan's layers: fetch what is missing, pack what the cache doesn't know.

Rules:
- A layer that the cache knows costs nothing but a look.
- Both cores are used: layers are packed side by side, the largest first.
- Files of two wheels that clash are found before anything is packed.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.build.store import LayerStore, layer_key
from dockyard.files import SliceSource, with_parents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.files import FileEntry
    from dockyard.oci.layer import Compression, Layer
    from dockyard.progress import Reporter, Task
    from dockyard.wheels.clash import Claims

_MEMO_SIZE = 1 << 20  # Bytes; smaller files are hashed each time.


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerJob:
    """One layer to find or make. `entries` is called only when it must be packed.

    inputs: the text whose hash is the key, for layers that a registry's index may have; claims:
    the files of its wheels, for the index.
    """

    key: str
    title: str
    created_by: str
    size: int
    entries: Callable[[], Sequence[FileEntry]] = field(repr=False)
    kind: str = ""
    inputs: str | None = field(default=None, repr=False)
    claims: Callable[[], Sequence[Claims]] | None = field(default=None, repr=False)


def make_layers(
    jobs: Sequence[LayerJob],
    *,
    store: LayerStore,
    compression: Compression,
    reporter: Reporter,
    known: Mapping[str, Layer],
    workers: int = 2,
) -> list[Layer]:
    """Pack the layers that aren't known (by key); return all in the jobs' order."""
    layers = dict(known)
    missing = [job for job in jobs if job.key not in layers]

    def pack(job: LayerJob) -> Layer:
        with ExitStack() as stack:
            tasks: list[Task] = []

            def entries() -> Sequence[FileEntry]:
                # Finding them may take fetching and compiling, which show tasks of their own.
                found = with_parents(job.entries())
                task = reporter.task(f"Packing {job.title}", total=_tar_size(found))
                tasks.append(stack.enter_context(task))
                return found

            return store.pack(
                job.key,
                entries,
                created_by=job.created_by,
                compression=compression,
                advance=lambda amount: tasks[0].advance(amount),
            )

    missing.sort(key=lambda job: -job.size)
    if len(missing) == 1:
        layers[missing[0].key] = pack(missing[0])
    elif missing:
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="pack")
        try:
            for job, layer in zip(missing, pool.map(pack, missing), strict=True):
                layers[job.key] = layer
        finally:
            pool.shutdown(cancel_futures=True)
    return [layers[job.key] for job in jobs]


def _tar_size(entries: Iterable[FileEntry]) -> int:
    """About how many bytes of tar the entries make: a header each, and whole blocks of 512."""
    return sum(512 + (entry.size + 511) // 512 * 512 for entry in entries)


def tree_key(kind: str, entries: Iterable[FileEntry], *, cache: Cache, compression: str) -> str:
    """The cache key of a layer made of these very entries: paths, modes and bytes."""
    digest = hashlib.sha256()
    for entry in entries:
        content = b""
        if entry.source is not None:
            content = _content_hash(entry, cache)
        line = f"{entry.kind}\0{entry.mode:o}\0{entry.path}\0{entry.target}\0"
        digest.update(line.encode("utf-8", "surrogateescape") + content + b"\n")
    return layer_key(kind, tree=digest.hexdigest(), compression=compression)


def _content_hash(entry: FileEntry, cache: Cache) -> bytes:
    """SHA-256 of an entry's bytes; remembered for large files on disk by their stat."""
    source = entry.source
    assert source is not None
    if isinstance(source, SliceSource):
        if source.sha256 is not None:
            return source.sha256
        if source.size >= _MEMO_SIZE:
            return _remembered_hash(source.path, source, cache)
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return digest.digest()


def _remembered_hash(path: Path, source: SliceSource, cache: Cache) -> bytes:
    stat = path.stat()
    facts = (str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino, source.offset)
    key = hashlib.sha256(repr((facts, source.size)).encode()).hexdigest()
    known = cache.read_record("file-hash", key)
    if known is None:
        digest = hashlib.sha256()
        for chunk in source.chunks():
            digest.update(chunk)
        known = digest.hexdigest()
        cache.write_record("file-hash", key, known)
    return bytes.fromhex(known)
