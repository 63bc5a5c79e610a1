"""An image's CUDA against a machine's driver."""

from __future__ import annotations

import pytest

from dockyard.engine.gpus.devices import Device, Gpu, Inventory
from dockyard.engine.gpus.requires import unmet_requirement

DEVICE = Device(index="0", uuid="GPU-0", name="A100", memory_total=1, memory_free=1)
MACHINE = Inventory(
    driver="550.54.15",
    cuda="12.4",
    gpus=(Gpu(device=DEVICE, compute_capability="8.0", brand="tesla"),),
)
# As NVIDIA's own images have it.
LONG = "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=550,driver<551"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NVIDIA_REQUIRE_CUDA": "cuda>=12.4"},
        {"NVIDIA_REQUIRE_CUDA": "cuda>=11.8"},
        {"NVIDIA_REQUIRE_CUDA": "cuda>=12"},
        {"NVIDIA_REQUIRE_CUDA": LONG},
        {"NVIDIA_REQUIRE_CUDA": "cuda>=13.0", "NVIDIA_DISABLE_REQUIRE": "1"},
        {"NVIDIA_REQUIRE_ARCH": "arch>=7.0", "NVIDIA_REQUIRE_DRIVER": "driver>=535"},
        {"NVIDIA_REQUIRE_X": "something new"},
        {"CUDA_VERSION": "12.4.1"},
        {"NVIDIA_REQUIRE_CUDA": ""},
    ],
    ids=str,
)
def test_accepts_what_the_driver_runs(environment):
    assert unmet_requirement(environment, MACHINE) is None


@pytest.mark.parametrize(
    ("environment", "unmet"),
    [
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.8"}, "NVIDIA_REQUIRE_CUDA=cuda>=12.8"),
        ({"CUDA_VERSION": "13.0.0"}, "NVIDIA_REQUIRE_CUDA=cuda>=13.0"),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.8 brand=quadro,driver>=550"}, "brand=quadro"),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.0,driver>=560"}, "driver>=560"),
        ({"NVIDIA_REQUIRE_ARCH": "arch>=9.0"}, "arch>=9.0"),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12", "NVIDIA_REQUIRE_D": "driver<500"}, "driver<500"),
    ],
    ids=str,
)
def test_names_the_condition_that_the_driver_doesnt_meet(environment, unmet):
    assert unmet in unmet_requirement(environment, MACHINE)
