"""The cache folder under crashes, rivals and full disks."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dockyard.cache import Cache, default_cache_root
from dockyard.cli.main import run_command_line
from dockyard.errors import CacheError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_a_blob_is_found_under_its_digest(cache: Cache) -> None:
    with cache.writing_blob() as out:
        out.write(b"hello ")
        out.write(memoryview(b"world"))
    digest = hashlib.sha256(b"hello world").hexdigest()
    assert out.hexdigest == digest
    assert out.size == 11
    assert cache.blob_path(digest).read_bytes() == b"hello world"


def test_other_bytes_than_expected_leave_nothing(cache: Cache) -> None:
    with pytest.raises(CacheError, match="expected"), cache.writing_blob("0" * 64) as out:
        out.write(b"x")
    assert not list((cache.root / "tmp").iterdir())
    assert not any(path.is_file() for path in (cache.root / "blobs").rglob("*"))


def test_a_writer_that_fails_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(RuntimeError), cache.writing_blob() as out:
        out.write(b"x")
        raise RuntimeError
    assert not list((cache.root / "tmp").iterdir())


def test_a_record_reads_back_and_is_replaced(cache: Cache) -> None:
    assert cache.read_record("kind", "key") is None
    cache.write_record("kind", "key", {"a": [1, None, "ä"]})
    assert cache.read_record("kind", "key") == {"a": [1, None, "ä"]}
    cache.write_record("kind", "key", 2)
    assert cache.read_record("kind", "key") == 2


@pytest.mark.parametrize("damage", [b"", b"garbage", b"00\n{}"])
def test_a_damaged_record_counts_as_absent(cache: Cache, damage: bytes) -> None:
    cache.write_record("kind", "key", {"a": 1})
    path = cache.root / "records" / "kind" / "key.json"
    path.write_bytes(damage)
    assert cache.read_record("kind", "key") is None
    path.write_bytes(b"")
    assert cache.read_record("kind", "key") is None


def test_a_killed_writer_leaves_no_blob_and_its_rest_is_swept(cache: Cache) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dockyard.cache import Cache\n"
        "with Cache(Path(sys.argv[1])).writing_blob() as out:\n"
        "    out.write(b'half'); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(cache.root)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(list((cache.root / "tmp").iterdir())) == 1
    assert not any(path.is_file() for path in (cache.root / "blobs").rglob("*"))
    cache.sweep()
    assert not list((cache.root / "tmp").iterdir())


def test_sweeping_spares_a_living_writer(cache: Cache) -> None:
    with cache.temporary() as path:
        cache.sweep()
        assert path.exists()


def test_a_lock_keeps_others_out_until_it_ends(cache: Cache) -> None:
    order: list[str] = []

    def second() -> None:
        with cache.lock("layer"):
            order.append("second")

    with cache.lock("layer"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(CacheError, match="can't be made") as caught:
        Cache(blocker / "cache")
    assert "DOCKYARD_CACHE" in str(caught.value)


def test_a_full_disk_is_one_clear_error(cache: Cache) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(CacheError, match="No space left"),
        cache.temporary(),
        full.open("wb") as out,
    ):
        out.write(b"x" * 10)
        out.flush()


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKYARD_CACHE", str(tmp_path / "a"))
    assert default_cache_root() == tmp_path / "a"
    monkeypatch.delenv("DOCKYARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_cache_root() == tmp_path / "b" / "dockyard"


def test_blobs_are_readable_by_others_whatever_the_umask(cache: Cache) -> None:
    old = os.umask(0o077)
    try:
        with cache.writing_blob() as out:
            out.write(b"x")
    finally:
        os.umask(old)
    assert cache.blob_path(out.hexdigest).stat().st_mode & 0o777 == 0o644


def test_what_wasnt_used_for_a_while_is_pruned_and_the_rest_stays(tmp_path):
    cache = Cache(tmp_path)
    with cache.writing_blob() as old:
        old.write(b"old")
    with cache.writing_blob() as new:
        new.write(b"newer")
    cache.write_record("kind", "old", 1)
    for name, age in (("half-used", 0), ("unused", 9)):
        folder = tmp_path / "unpacked" / name
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / str(number)).write_text("x")
            past = time.time() - 3600 * (9 if number else age)
            os.utime(folder / str(number), (past, past))
    long_ago = time.time() - 3600 * 9
    for path in (cache.blob_path(old.hexdigest), tmp_path / "records/kind/old.json"):
        os.utime(path, (long_ago, long_ago))
    removed = cache.prune(unused_for=3600 * 5)
    assert removed.files == 4
    assert not cache.has_blob(old.hexdigest)
    assert cache.has_blob(new.hexdigest)
    assert cache.read_record("kind", "old") is None
    # A folder that is used in part is used.
    assert sorted(path.name for path in (tmp_path / "unpacked").iterdir()) == ["half-used"]
    assert {part.name: part.size for part in cache.usage() if part.files} == {
        "blobs": 5,
        "unpacked": 2,
    }
    assert cache.prune(unused_for=-1).files == 3
    assert Cache(tmp_path).usage()[0].size == 0


def test_the_commands_show_and_prune(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKYARD_CACHE", str(tmp_path))
    Cache(tmp_path).write_record("kind", "key", "value")
    assert run_command_line(["cache", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(part["name"], part["files"]) for part in shown["parts"]] == [("records", 1)]
    assert run_command_line(["cache", "prune"]) == 0
    assert capsys.readouterr().out == "Removed 0 B in 0 files\n"
    assert run_command_line(["cache", "prune", "--older-than", "soon"]) == 2
    assert "no time" in capsys.readouterr().err
    assert run_command_line(["cache", "prune", "--all"]) == 0
    assert "in 1 file\n" in capsys.readouterr().out
    assert Cache(tmp_path).read_record("kind", "key") is None
