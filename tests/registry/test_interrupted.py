"""Ctrl-C and SIGTERM in mid-transfer: a quick and quiet end, nothing half there, and on it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from scripted_registry import scripted_registry
from small_images import small_image, small_layer

from dockyard.cli.main import run_command_line
from dockyard.errors import RegistryError
from dockyard.oci.layout import read_layout, write_layout
from dockyard.oci.registry.parallel import run_parallel

if TYPE_CHECKING:
    from pathlib import Path


def interrupted(words: list[str], reached: threading.Event, number: int) -> tuple[int, str]:
    """Run the command, send the signal when `reached` is set; exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dockyard", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert reached.wait(30)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.parametrize("command", ["push", "pull"])
def test_an_interrupted_transfer_ends_at_once_and_goes_on_later(
    home, tmp_path: Path, monkeypatch, command, number, code
):
    monkeypatch.setenv("DOCKYARD_CACHE", str(tmp_path / "cache"))
    image = small_image(small_layer("a", 2 << 20), small_layer("b", 2 << 20))
    write_layout(image, tmp_path / "in")
    reached, released = threading.Event(), threading.Event()

    def stall(handler):
        reached.set()
        released.wait(60)
        return handler.hang_up()

    with scripted_registry() as registry:
        name = f"{registry.host}/team/app:v1"
        if command == "push":
            words = ["push", f"oci:{tmp_path / 'in'}", name]
            registry.fault("PATCH", "/uploads/", stall, times=2)
        else:
            assert run_command_line(["push", f"oci:{tmp_path / 'in'}", name]) == 0
            words = ["pull", name, "--platform", "amd64", "-o", f"oci:{tmp_path / 'out'}"]
            registry.fault("GET", str(image.layers[0].descriptor.digest), stall)
            registry.fault("GET", str(image.layers[1].descriptor.digest), stall)
        assert interrupted(words, reached, number) == (code, "")
        released.set()
        if command == "push":
            assert registry.tags == {}
        else:
            assert not (tmp_path / "out").exists()
        assert run_command_line(words) == 0
        if command == "push":
            assert list(registry.tags) == [("team/app", "v1")]
        else:
            assert read_layout(tmp_path / "out").digest == image.digest


def test_the_first_failure_ends_the_others_and_is_the_one_raised():
    stop = threading.Event()
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise RegistryError("one")
        assert stop.wait(20)
        raise RegistryError("stopped")

    with pytest.raises(RegistryError, match="one"):
        run_parallel(work, range(10), parallel=3, stop=stop)
    assert sorted(begun) == [0, 1, 2]
    assert not stop.is_set()


def test_results_are_in_the_order_of_the_items():
    def work(number: int) -> int:
        time.sleep(0.01 * max(0, 5 - number))
        return number * number

    assert run_parallel(work, range(6), parallel=4, stop=threading.Event()) == [
        number * number for number in range(6)
    ]
