"""GPUs in each engine's own words."""

from __future__ import annotations

import pytest

from dockyard.engine.gpus.translate import choose_handover, device_fields, local_cdi_kinds
from dockyard.engine.spec import Gpus, parse_gpus
from dockyard.errors import EngineError, UsageError

UUIDS = Gpus(ids=("GPU-aa", "MIG-bb"))
DISCOVERED = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}


@pytest.mark.parametrize(
    ("info", "options", "handover"),
    [
        ({}, {}, "requests"),
        ({"Runtimes": {"runc": {}}}, {}, "requests"),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, {}, "runtime"),
        ({**DISCOVERED, "Runtimes": {"nvidia": {}}}, {}, "cdi"),
        ({"CDISpecDirs": ["/etc/cdi"]}, {"local_kinds": {"nvidia.com/gpu"}}, "cdi"),
        ({"CDISpecDirs": ["/etc/cdi"]}, {"local_kinds": {"amd.com/gpu"}}, "requests"),
        ({}, {"podman_version": "5.4.0"}, "cdi"),
        ({}, {"podman_version": "6.0.0-dev"}, "cdi"),
    ],
)
def test_the_way_is_the_one_that_the_engine_has(info, options, handover):
    assert choose_handover(info, **options) == handover


@pytest.mark.parametrize("version", ["4.3.1", "5.3.2"])
def test_refuses_a_podman_whose_socket_ignores_gpus(version):
    with pytest.raises(EngineError, match=r"can't hand GPUs to containers: before version 5\.4"):
        choose_handover({}, podman_version=version)


@pytest.mark.parametrize(
    ("gpus", "handover", "host", "environment"),
    [
        (
            UUIDS,
            "requests",
            {
                "DeviceRequests": [
                    {
                        "Driver": "",
                        "Capabilities": [["gpu"]],
                        "DeviceIDs": ["GPU-aa", "MIG-bb"],
                    }
                ]
            },
            {},
        ),
        (
            Gpus(),
            "requests",
            {"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]], "Count": -1}]},
            {},
        ),
        (
            UUIDS,
            "runtime",
            {"Runtime": "nvidia"},
            {"NVIDIA_VISIBLE_DEVICES": "GPU-aa,MIG-bb"},
        ),
        (Gpus(), "runtime", {"Runtime": "nvidia"}, {"NVIDIA_VISIBLE_DEVICES": "all"}),
        (
            UUIDS,
            "cdi",
            {
                "DeviceRequests": [
                    {
                        "Driver": "cdi",
                        "DeviceIDs": ["nvidia.com/gpu=GPU-aa", "nvidia.com/gpu=MIG-bb"],
                    }
                ]
            },
            {},
        ),
        (
            Gpus(),
            "cdi",
            {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]},
            {},
        ),
        *(
            (
                Gpus(ids=("amd.com/gpu=0",)),
                handover,
                {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["amd.com/gpu=0"]}]},
                {},
            )
            for handover in ("requests", "runtime", "cdi")
        ),
    ],
)
def test_says_it_in_the_engines_words(gpus, handover, host, environment):
    fields = device_fields(gpus, handover)
    assert (fields.host, fields.environment) == (host, environment)


def test_the_kinds_of_this_machine_are_read_from_json_and_yaml(tmp_path):
    (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n")
    (tmp_path / "amd.json").write_text('{"cdiVersion": "0.6.0", "kind": "amd.com/gpu"}')
    (tmp_path / "README").write_text("kind: other.com/gpu")
    assert local_cdi_kinds([tmp_path, tmp_path / "gone"]) == {"nvidia.com/gpu", "amd.com/gpu"}


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("GPU-0a1b,GPU-2c3d", Gpus(ids=("GPU-0a1b", "GPU-2c3d"))),
        ("MIG-0a1b", Gpus(ids=("MIG-0a1b",))),
        ("device=0:1", Gpus(ids=("0:1",))),
        ("amd.com/gpu=0", Gpus(ids=("amd.com/gpu=0",))),
        (
            "intel.com/gpu=card0,intel.com/gpu=card1",
            Gpus(ids=("intel.com/gpu=card0", "intel.com/gpu=card1")),
        ),
    ],
)
def test_understands_uuids_and_cdi_names(text, gpus):
    assert parse_gpus(text) == gpus


@pytest.mark.parametrize(
    "text",
    ["amd.com/gpu", "amd/gpu=0", "GPU-aa,GPU-aa", "GPU-aa,", "0.5", "gpu-aa"],
    ids=["no name", "no vendor", "twice", "an empty one", "a fraction", "small letters"],
)
def test_refuses_names_that_are_none(text):
    with pytest.raises(UsageError):
        parse_gpus(text)
