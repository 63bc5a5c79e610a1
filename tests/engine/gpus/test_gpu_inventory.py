"""What the driver tells of its devices, asked through the real binding of NVML."""

from __future__ import annotations

import os

import pytest
from fake_driver import dockyard, listed

from dockyard.engine.gpus.inventory import read_inventory

GIB = 1 << 30


def test_every_device_has_its_name_memory_load_and_versions(machine):
    found = listed(machine(4, FAKE_GPU_USED="0:30,2:5"))
    assert (found["driver"], found["cuda"]) == ("550.54.15", "12.4")
    assert [gpu["index"] for gpu in found["gpus"]] == ["0", "1", "2", "3"]
    assert len({gpu["uuid"] for gpu in found["gpus"]}) == 4
    first = found["gpus"][0]
    assert (first["name"], first["compute_capability"]) == ("Fake H100", "9.0")
    assert (first["memory_total"], first["memory_free"]) == (80 * GIB, 50 * GIB)
    assert first["utilisation"] == 70


def test_instances_of_a_gpu_that_is_cut_into_them_are_devices(machine):
    (gpu,) = listed(machine(1, FAKE_GPU_MIG="0"))["gpus"]
    assert gpu["mig"]
    assert [instance["index"] for instance in gpu["instances"]] == ["0:0", "0:1"]
    assert all(instance["uuid"].startswith("MIG-") for instance in gpu["instances"])
    assert gpu["instances"][0]["memory_total"] == 40 * GIB


def test_a_table_for_people_names_who_computes_where(machine):
    done = dockyard("gpus", env=machine(2, FAKE_GPU_PROCESS=f"1:{os.getpid()}:8"))
    assert done.returncode == 0
    first, second = (line for line in done.stdout.splitlines() if "Fake H100" in line)
    assert first.endswith("free")
    assert f"(pid {os.getpid()})" in second


@pytest.mark.parametrize("lacking", ["kernel module", "library"])
def test_a_machine_without_a_driver_is_told_so_in_one_line(machine, tmp_path, lacking):
    env = machine(0)
    if lacking == "library":
        # A file that is no library stands before a driver that this machine may have.
        (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
        env["LD_LIBRARY_PATH"] = str(tmp_path)
    done = dockyard("gpus", env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no NVIDIA driver found on this machine\n")


@pytest.mark.gpu
def test_a_real_driver_answers():
    """The same code on a machine with a GPU."""
    inventory = read_inventory()
    assert inventory.driver
    assert inventory.devices
    for device in inventory.devices:
        assert device.uuid.startswith(("GPU-", "MIG-"))
        assert 0 <= device.memory_free <= device.memory_total
