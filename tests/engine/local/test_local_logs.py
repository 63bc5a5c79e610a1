"""What a container wrote, kept and followed."""

from __future__ import annotations

from dockyard.engine.local.logs import LogReader, LogWriter, last_lines


def text(frames):
    return b"".join(chunk.data for _, chunk in frames).decode()


def test_only_the_newest_files_are_kept(tmp_path):
    writer = LogWriter(tmp_path / "log", size=1000, files=3)
    for number in range(500):
        writer.write(1, f"line {number}\n".encode())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    kept = text(LogReader(tmp_path / "log").written()).splitlines()
    assert kept == [f"line {number}" for number in range(500 - len(kept), 500)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3200


def test_a_reader_follows_through_rotations(tmp_path):
    writer = LogWriter(tmp_path / "log", size=200, files=2)
    reader = LogReader(tmp_path / "log", from_end=True)
    seen = ""
    for number in range(100):
        writer.write(1, f"line {number}\n".encode())
        seen += text(reader.written())
    assert seen == "".join(f"line {number}\n" for number in range(100))


def test_half_a_frame_is_read_when_it_is_whole(tmp_path):
    writer = LogWriter(tmp_path / "log")
    writer.write(1, b"whole\n")
    whole = (tmp_path / "log").read_bytes()
    reader = LogReader(tmp_path / "log")
    with (tmp_path / "log").open("ab") as file:
        file.write(whole[:9])
        file.flush()
        assert text(reader.written()) == "whole\n"
        file.write(whole[9:])
    assert text(reader.written()) == "whole\n"


def test_a_line_that_came_in_pieces_is_one_of_the_last_lines(tmp_path):
    writer = LogWriter(tmp_path / "log")
    for piece in (b"first\nsec", b"ond", b"\nthird"):
        writer.write(1, piece)
    frames = list(last_lines(LogReader(tmp_path / "log").written(), 2))
    assert [chunk.data for _, chunk in frames] == [b"second\n", b"third"]
