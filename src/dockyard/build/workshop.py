"""What a build reaches out with: the cache, downloads, registries, and where progress goes.

Rules: registries are opened when one is first asked for; everything is closed at the end.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.cache import Cache
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dockyard.build.layer_index import LayerIndex
    from dockyard.build.request import BuildRequest
    from dockyard.fetch import Fetcher
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Registries, Repository
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """One build's tools. index: the layer index of the registry that the image goes to."""

    cache: Cache
    fetcher: Fetcher
    registries: Registries
    index: LayerIndex | None = None
    reporter: Reporter = SILENT


@dataclass(slots=True)
class LazyRegistries:
    """Registries that are opened with the first question."""

    opening: Callable[[], Registries]
    opened: Registries | None = field(default=None)

    def repository(self, reference: Reference | str) -> Repository:
        """The repository that the reference names."""
        if self.opened is None:
            self.opened = self.opening()
        return self.opened.repository(reference)


@contextmanager
def open_workshop(
    request: BuildRequest,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
    *,
    registries: Registries | None = None,
    insecure: Iterable[str] = (),
    sweep: bool = True,
) -> Iterator[Workshop]:
    """The tools for one request.

    sweep: remove first what earlier builds that were killed have left in the cache.
    registries: others than those that this machine reaches; insecure: hosts of these with which
    plain HTTP is allowed.
    """
    from dockyard.fetch import Fetcher

    found = cache or Cache()
    if sweep:
        found.sweep()
    with ExitStack() as stack:

        def opening() -> Registries:
            from dockyard.oci.registry.connect import HttpRegistries

            return stack.enter_context(HttpRegistries(cache=found, insecure=insecure))

        yield Workshop(
            cache=found,
            fetcher=stack.enter_context(Fetcher(found, reporter=reporter, offline=request.offline)),
            registries=registries or LazyRegistries(opening),
            reporter=reporter,
        )
