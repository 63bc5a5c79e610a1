"""Making a plan's layers: what progress is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockyard.build.pack import LayerJob, make_layers
from dockyard.build.store import LayerStore
from dockyard.files import file_entry
from dockyard.progress import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.cache import Cache


class Measured(SilentReporter):
    """A reporter that remembers each task's length, and how far it came."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[int]] = {}

    @contextmanager
    def task(self, text: str, *, total: int | None = None) -> Iterator[Measured._Task]:
        numbers = self.tasks[text] = [total or 0, 0]
        yield self._Task(numbers)

    class _Task:
        def __init__(self, numbers: list[int]) -> None:
            self.numbers = numbers

        def advance(self, amount: int) -> None:
            self.numbers[1] += amount

        def describe(self, text: str) -> None:
            raise AssertionError("packing keeps its description")


def test_packing_advances_to_its_end_and_a_known_layer_shows_nothing(cache: Cache) -> None:
    files = [file_entry(f"app/{number}.bin", b"x" * 70_000 * number) for number in range(1, 9)]
    job = LayerJob(key="k", title="files", created_by="", size=1, entries=lambda: files)
    store = LayerStore(cache=cache, archives={})
    heard = Measured()
    make_layers([job], store=store, compression="gzip", reporter=heard)
    ((text, (total, done)),) = heard.tasks.items()
    assert text == "Packing files"
    assert total > 2_500_000
    # The tar's own end is all that may be missing.
    assert abs(total - done) <= 20_480
    again = Measured()
    make_layers([job], store=store, compression="gzip", reporter=again)
    assert again.tasks == {}
