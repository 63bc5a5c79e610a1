"""An engine that is looked for while something else is done.

Rules: looking begins at once, in a thread; what it meets is raised where the engine is first used.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockyard.engine.api import EngineInfo
    from dockyard.engine.connect import FoundEngine


class EngineSoon:
    """The part of an engine that builds need; `find` is called in a thread of its own."""

    def __init__(self, find: Callable[[], FoundEngine]) -> None:
        self._find = find
        self._found: FoundEngine | None = None
        self._error: BaseException | None = None
        # A daemon: a build that fails early needn't wait for an engine that doesn't answer.
        self._thread = threading.Thread(target=self._look, name="engine", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """Which engine it is."""
        return self._engine().info

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image that the engine has."""
        return self._engine().known_layers()

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a tar of images, streamed."""
        return self._engine().load(chunks)

    def _look(self) -> None:
        try:
            engine = self._find()
            # The engine remembers what it has seen, so that asking again is quick.
            engine.known_layers()
            self._found = engine
        except BaseException as error:
            self._error = error

    def _engine(self) -> FoundEngine:
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found
