"""The models a worker has: which versions, in which state, and how one takes another's place.

Rules: requests are looked up and queued in one step on the event loop, so that a version is either
before or behind a swap. A new version is loaded and warm before it is looked up; the old one
answers what it took. Loading happens in a thread, while others are served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dockyard_serve.batching import QueueLimits
from dockyard_serve.errors import LoadError, NotFound, Unavailable
from dockyard_serve.metrics import Metrics
from dockyard_serve.model import Load, Model, Source
from dockyard_serve.serving import Served
from dockyard_serve.settings import MAX_BATCH_SIZE, QueueSettings

log = logging.getLogger("dockyard.serve")

READY, LOADING, UNLOADING, UNAVAILABLE = "READY", "LOADING", "UNLOADING", "UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A version that should serve, and how. `stamp` changes when its files do."""

    source: Source
    queue: QueueSettings
    stamp: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What should serve of a model: versions from the newest, and other names for them."""

    versions: Sequence[Wish]
    aliases: Mapping[str, str]


class Place(Protocol):
    """Where models come from."""

    def names(self) -> Sequence[str]:
        """The models there are, loaded or not."""
        ...

    def wishes(self, name: str) -> Wishes:
        """What should serve of a model; raises LoadError."""
        ...


@dataclass(slots=True)
class _Version:
    wish: Wish
    state: str
    reason: str = ""
    served: Served | None = None


@dataclass(slots=True)
class _Entry:
    versions: dict[str, _Version]
    order: Sequence[str] = ()
    aliases: Mapping[str, str] | None = None


class Repository:
    """Loads, finds, swaps and unloads models, on the event loop that made it."""

    def __init__(self, place: Place, load: Load, metrics: Metrics) -> None:
        self._place = place
        self._load = load
        self._metrics = metrics
        self._entries: dict[str, _Entry] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._unloaded: set[str] = set()

    # Finding.

    def find(self, name: str, version: str | None = None) -> Served:
        """The version (or alias, or the default) that answers; raises NotFound or Unavailable."""
        entry = self._entries.get(name)
        if entry is None:
            if name in self._unloaded or name in self._place.names():
                raise Unavailable(f"model {name!r} isn't loaded")
            known = ", ".join(sorted(self._entries)[:10])
            raise NotFound(f"there is no model {name!r}", models=known)
        if version is None:
            for candidate in entry.order:
                served = entry.versions[candidate].served
                if served is not None:
                    return served
            raise Unavailable(f"model {name!r} isn't ready")
        found = entry.versions.get((entry.aliases or {}).get(version, version))
        if found is None:
            raise NotFound(
                f"model {name!r} has no version {version!r}",
                versions=", ".join([*entry.versions, *(entry.aliases or {})]),
            )
        if found.served is None:
            raise Unavailable(f"version {version!r} of model {name!r} isn't ready")
        return found.served

    def only(self) -> Served:
        """The model that paths without a name mean: the only one; raises NotFound."""
        if len(self._entries) == 1:
            return self.find(next(iter(self._entries)))
        if not self._entries and set(self._place.names()) - self._unloaded:
            raise Unavailable("the model isn't loaded yet")
        raise NotFound(
            "this server has several models; name one: /models/NAME/predict"
            if self._entries
            else "this server has no model",
            models=", ".join(sorted(self._entries)),
        )

    def versions(self, name: str) -> list[str]:
        """The versions of a model that answer, from the newest."""
        entry = self._entries.get(name)
        if entry is None:
            return []
        return [number for number in entry.order if entry.versions[number].served is not None]

    def ready(self) -> Sequence[Model]:
        """The models that answer, each in its default version, by name."""
        return [self.find(name).model for name in sorted(self._entries) if self.versions(name)]

    def served(self) -> list[Served]:
        """Everything that answers."""
        return [
            version.served
            for entry in self._entries.values()
            for version in entry.versions.values()
            if version.served is not None
        ]

    def all_ready(self) -> bool:
        """Whether each model answers."""
        return bool(self._entries) and all(self.versions(name) for name in self._entries)

    def index(self) -> list[dict[str, str]]:
        """Every version known, and its state, as the repository extension lists them."""
        rows = [
            {"name": name, "version": number, "state": version.state, "reason": version.reason}
            for name, entry in sorted(self._entries.items())
            for number, version in entry.versions.items()
        ]
        idle = sorted({*self._place.names(), *self._unloaded} - set(self._entries))
        return rows + [
            {"name": name, "version": "", "state": UNAVAILABLE, "reason": "unloaded"}
            for name in idle
        ]

    # Changing.

    async def load_all(self) -> None:
        """Load every model there is; raises the first LoadError."""
        for name in self._place.names():
            await self.load(name)

    async def load(self, name: str) -> None:
        """Make what serves what the model's place says; raises NotFound or LoadError.

        A version that fails to load leaves the others, and the one it was to replace, as they are.
        """
        if name not in self._place.names():
            raise NotFound(f"there is no model {name!r} in the repository")
        async with self._locks.setdefault(name, asyncio.Lock()):
            wishes = await asyncio.to_thread(self._place.wishes, name)
            known = self._entries.get(name)
            entry = known or _Entry(versions={})
            failed: LoadError | None = None
            # Beside the table until the first is ready: a model that fails was never there.
            for wish in wishes.versions:
                try:
                    await self._bring(entry, wish)
                except LoadError as error:
                    failed = failed or error
            if failed is not None and not any(v.served for v in entry.versions.values()):
                raise failed
            wanted = [wish.source.version for wish in wishes.versions]
            entry.order = wanted + [old for old in entry.versions if old not in wanted]
            entry.aliases = dict(wishes.aliases)
            self._entries[name] = entry
            self._unloaded.discard(name)
            if failed is not None:
                raise failed
            for number in [number for number in entry.versions if number not in wanted]:
                self._retire(entry, number)

    async def _bring(self, entry: _Entry, wish: Wish) -> None:
        """Load a version unless it serves already, and put it in its place."""
        number = wish.source.version
        current = entry.versions.get(number)
        if current is not None and current.served is not None and current.wish == wish:
            return
        if current is None:
            current = entry.versions[number] = _Version(wish, LOADING)
        log.info("loading", extra={"model": wish.source.name, "version": number})
        began = time.perf_counter()
        try:
            model = await asyncio.to_thread(_load_warm, self._load, wish.source)
        except LoadError as error:
            if current.served is None:
                current.state, current.reason = UNAVAILABLE, error.what
            raise
        served = Served(model, _queue_limits(model, wish.queue), self._metrics)
        await asyncio.to_thread(served.calibrate)
        seconds = time.perf_counter() - began
        old, current.served = current.served, served
        current.wish, current.state, current.reason = wish, READY, ""
        if old is not None:
            self._close(old)
        served.numbers.ready.set(1)
        served.numbers.load_seconds.set(seconds)
        log.info(
            "ready",
            extra={
                "model": wish.source.name,
                "version": number,
                "seconds": round(seconds, 3),
                "max_batch_size": served.limits.max_batch_size,
            },
        )

    async def unload(self, name: str) -> None:
        """Take a model away, after it answered what it had taken; raises NotFound."""
        if name not in self._entries:
            if name in self._unloaded:
                return
            raise NotFound(f"there is no model {name!r}")
        async with self._locks.setdefault(name, asyncio.Lock()):
            entry = self._entries.pop(name, None)
            if entry is None:
                return
            self._unloaded.add(name)
            for number in list(entry.versions):
                self._retire(entry, number)

    def _retire(self, entry: _Entry, number: str) -> None:
        version = entry.versions.pop(number)
        entry.order = [other for other in entry.order if other != number]
        if version.served is not None:
            self._close(version.served)

    def _close(self, served: Served) -> None:
        task = asyncio.get_running_loop().create_task(served.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Unload everything, and wait until all that was taken is answered."""
        for name in list(self._entries):
            await self.unload(name)
        if self._closing:
            await asyncio.wait(self._closing)

    async def follow(self, every: float) -> None:
        """Look for changes of the models' places, for ever; what fails is logged and left."""
        while True:
            await asyncio.sleep(every)
            names = set(await asyncio.to_thread(self._place.names))
            for name in sorted(names - self._unloaded):
                try:
                    await self.load(name)
                except (LoadError, NotFound) as error:
                    log.warning("%s", error, extra={"model": name})
            for name in sorted(set(self._entries) - names):
                await self.unload(name)


def _load_warm(load: Load, source: Source) -> Model:
    """A model after its first call; what its warm-up raises is a LoadError."""
    model = load(source)
    try:
        model.warm_up()
    except Exception as error:
        raise LoadError(
            f"the model fails when it is warmed up: {error}", where=source.name
        ) from error
    return model


def _queue_limits(model: Model, settings: QueueSettings) -> QueueLimits:
    """The limits of a model's queue: the smaller of what the model and the operator say."""
    if model.max_batch_size is None:
        rows = 1
    else:
        rows = model.max_batch_size or MAX_BATCH_SIZE
        if settings.max_batch_size is not None:
            rows = min(rows, settings.max_batch_size)
    return QueueLimits(
        max_batch_size=max(1, rows),
        max_delay=settings.max_delay,
        max_queue=settings.max_queue,
        timeout=settings.timeout,
    )
