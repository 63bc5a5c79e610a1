"""An engine that is looked for in the background."""

import threading

import pytest

from dockyard.cli.soon import EngineSoon
from dockyard.errors import EngineError


class _Engine:
    info = "Engine 1"

    def __init__(self) -> None:
        self.loaded: list[bytes] = []

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        return frozenset({("sha256:a",)})

    def load(self, chunks) -> tuple[str, ...]:
        self.loaded += chunks
        return ("image:latest",)


def test_looking_begins_at_once_and_answers_when_asked() -> None:
    begun, may_end = threading.Event(), threading.Event()
    engine = _Engine()

    def find() -> _Engine:
        begun.set()
        assert may_end.wait(10)
        return engine

    soon = EngineSoon(find)
    assert begun.wait(10)
    may_end.set()
    assert soon.known_layers() == {("sha256:a",)}
    assert soon.info == "Engine 1"
    assert soon.load([b"tar"]) == ("image:latest",)
    assert engine.loaded == [b"tar"]


def test_an_absent_engine_is_an_error_each_time_it_is_asked() -> None:
    def find() -> _Engine:
        raise EngineError("no engine answers")

    soon = EngineSoon(find)
    for _ in range(2):
        with pytest.raises(EngineError, match="no engine answers"):
            soon.known_layers()
