"""Who gets which GPU, as a pure decision."""

from __future__ import annotations

import pytest

from dockyard.engine.gpus.choose import BusyError, Holder, choose_devices
from dockyard.engine.gpus.devices import Device, Gpu, GpuProcess, Inventory
from dockyard.engine.spec import Gpus
from dockyard.errors import EngineError, UsageError

GIB = 1 << 30


def device(index, free=80, processes=()):
    return Device(
        index=str(index),
        uuid=f"GPU-0000000{index}",
        name="H100",
        memory_total=80 * GIB,
        memory_free=free * GIB,
        processes=tuple(processes),
    )


def four(*devices):
    devices = devices or [device(index) for index in range(4)]
    return Inventory(driver="550", cuda="12.4", gpus=tuple(Gpu(device=each) for each in devices))


def chosen(gpus, inventory, *holders, **options):
    return [each.index for each in choose_devices(gpus, inventory, holders, **options)]


def held(*indexes, memory=None, name="other", **options):
    uuids = tuple(f"GPU-0000000{index}" for index in indexes)
    return Holder(name=name, devices=uuids, memory=memory and memory * GIB, **options)


def test_a_number_is_so_many_free_ones_those_with_most_memory_first():
    inventory = four(device(0, 10), device(1, 70), device(2, 80), device(3, 80))
    assert chosen(Gpus(count=1), inventory) == ["2"]
    assert chosen(Gpus(count=3), inventory) == ["2", "3", "1"]


def test_what_someone_holds_or_computes_on_isnt_free():
    stranger = GpuProcess(pid=7, memory=GIB)
    inventory = four(device(0), device(1, processes=[stranger]), device(2), device(3))
    assert chosen(Gpus(count=2), inventory, held(0)) == ["2", "3"]
    with pytest.raises(BusyError) as caught:
        choose_devices(Gpus(count=3), inventory, [held(0, name="train")])
    assert caught.value.what == "3 GPUs are asked for, and 2 of 4 are free"
    assert "GPU 0 is held by train" in caught.value.hint
    assert "GPU 1 is held by process 7" in caught.value.hint
    assert "--wait" in caught.value.hint


def test_more_than_there_are_is_refused_for_good():
    with pytest.raises(EngineError, match="5 GPUs are asked for, and this machine has 4") as caught:
        choose_devices(Gpus(count=5), four(), [])
    assert not isinstance(caught.value, BusyError)


def test_all_and_names_are_given_even_if_they_are_held():
    assert chosen(Gpus(), four(), held(0)) == ["0", "1", "2", "3"]
    assert chosen(Gpus(ids=("1", "GPU-00000000")), four(), held(0)) == ["1", "0"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("7",), "there is no GPU 7 on this machine; there are: 0, 1, 2, 3"),
        (("GPU-ffffffff",), "there is no GPU GPU-ffffffff"),
        (("GPU-0000000",), "there is no GPU GPU-0000000"),  # The start of all of them.
        (("0", "GPU-00000000"), "is named twice"),
    ],
)
def test_refuses_names_that_are_nobodys_or_somebodys_twice(ids, message):
    with pytest.raises(UsageError, match=message):
        choose_devices(Gpus(ids=ids), four(), [])


def test_a_share_of_memory_fits_beside_other_shares_until_they_are_used_up():
    twenty = Gpus(memory=20 * GIB)
    only = four(device(0))
    assert chosen(twenty, only, held(0, memory=60)) == ["0"]
    with pytest.raises(BusyError, match="with 20 GiB of free memory"):
        choose_devices(twenty, only, [held(0, memory=60), held(0, memory=10)])


def test_a_share_isnt_counted_twice_when_its_holder_uses_it():
    using = four(device(0, 40, [GpuProcess(pid=7, memory=40 * GIB)]))
    holder = held(0, memory=40, container="c1")
    assert chosen(Gpus(memory=40 * GIB), using, holder, owners={7: "c1"}) == ["0"]
    with pytest.raises(BusyError):
        choose_devices(Gpus(memory=40 * GIB), using, [holder], owners={})


def test_a_whole_gpu_isnt_shared_and_a_shared_one_isnt_whole():
    with pytest.raises(BusyError):
        choose_devices(Gpus(memory=GIB), four(device(0)), [held(0)])
    with pytest.raises(BusyError):
        choose_devices(Gpus(count=1), four(device(0)), [held(0, memory=1)])


def test_instances_are_handed_out_and_their_gpu_isnt():
    parts = tuple(
        Device(index=f"0:{n}", uuid=f"MIG-0000000{n}", name="1g", memory_total=9, memory_free=9)
        for n in range(2)
    )
    cut = Inventory(
        driver="550", cuda="12.4", gpus=(Gpu(device=device(0), mig=True, instances=parts),)
    )
    assert chosen(Gpus(count=2), cut) == ["0:0", "0:1"]
    assert chosen(Gpus(ids=("MIG-00000001",)), cut) == ["0:1"]
    assert chosen(Gpus(ids=("0",)), cut) == ["0"]
