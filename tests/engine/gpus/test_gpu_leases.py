"""The file of leases: shared by all, and freed by the death of who holds them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from dockyard.engine.gpus.choose import Holder
from dockyard.engine.gpus.leases import Lease, lease_path, open_leases, process_start
from dockyard.errors import EngineError


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    path = tmp_path / "leases.json"
    monkeypatch.setenv("DOCKYARD_GPU_LEASES", str(path))
    return path


@pytest.fixture
def other():
    """Another process that holds something."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def add(name, pid, *devices):
    with open_leases() as table:
        table.write([*table.read(), Lease.of(Holder(name=name, devices=devices), pid)])


def names():
    with open_leases() as table:
        return [lease.holder.name for lease in table.read()]


def test_a_lease_lives_as_long_as_its_process(other):
    add("mine", os.getpid(), "GPU-1")
    add("other", other.pid, "GPU-2")
    assert names() == ["mine", "other"]
    other.kill()
    other.wait()
    assert names() == ["mine"]


def test_a_killed_process_that_nobody_has_waited_for_holds_nothing(other):
    add("other", other.pid, "GPU-2")
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert names() == []


def test_a_later_process_with_the_same_number_holds_nothing(path):
    lease = Lease(holder=Holder(name="old", devices=("GPU-1",), pid=os.getpid()), started=1)
    with open_leases() as table:
        table.write([lease])
    assert process_start(os.getpid()) != 1
    assert names() == []


@pytest.mark.parametrize(
    "damage",
    [b"", b"[{", b"{}", b"[1]", b'[{"name": "x"}]', b"\xff" * 100],
    ids=["empty", "cut", "an object", "a number", "fields missing", "no text"],
)
def test_a_damaged_file_counts_as_empty_and_is_written_anew(path, damage):
    path.write_bytes(damage)
    assert names() == []
    add("mine", os.getpid(), "GPU-1")
    assert names() == ["mine"]


def test_a_shorter_table_leaves_nothing_of_a_longer_one():
    add("a" * 1000, os.getpid(), "GPU-1")
    with open_leases() as table:
        table.write([])
    assert names() == []


def test_nobody_reads_while_another_decides():
    """Eight threads each add one to what they read; none of them is lost."""
    threads = [threading.Thread(target=add, args=(f"t{n}", os.getpid(), "GPU-1")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names()) == [f"t{n}" for n in range(8)]


def test_everybody_may_write_the_file_and_nobody_is_led_elsewhere(path, tmp_path):
    add("mine", os.getpid(), "GPU-1")
    assert path.stat().st_mode & 0o777 == 0o666
    path.unlink()
    (tmp_path / "elsewhere").write_text("precious")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="leases can't be opened"):
        names()
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_all_users_of_a_machine_share_one_file(monkeypatch):
    monkeypatch.delenv("DOCKYARD_GPU_LEASES")
    assert lease_path().parent.stat().st_mode & 0o1002 == 0o1002
