"""The table of small results, whole, damaged and shared."""

from pathlib import Path

from dockyard.pieces import Pieces


def test_keeps_values_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pieces.sqlite"
    with Pieces(path) as pieces:
        assert pieces.get("a") is None
        pieces.put({"a": b"1", "b": bytes(100_000)})
        assert pieces.get("a") == b"1"
    with Pieces(path) as pieces:
        assert pieces.get("b") == bytes(100_000)
        pieces.put({"a": b"2"})
        assert pieces.get("a") == b"2"


def test_a_damaged_file_is_as_good_as_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "pieces.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with Pieces(path) as pieces:
        assert pieces.get("a") is None
    with Pieces(path) as pieces:
        pieces.put({"a": b"1"})
    with Pieces(path) as pieces:
        assert pieces.get("a") == b"1"


def test_a_place_that_cannot_be_written_loses_nothing_but_time(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with Pieces(blocker / "pieces.sqlite") as pieces:
        assert pieces.get("a") is None


def test_two_at_once_see_each_others_values(tmp_path: Path) -> None:
    path = tmp_path / "pieces.sqlite"
    with Pieces(path) as one, Pieces(path) as other:
        assert one.get("a") is None
        other.put({"a": b"1"})
        assert one.get("a") == b"1"
