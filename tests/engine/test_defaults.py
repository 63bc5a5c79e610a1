"""What a container gets that nobody asked for, decided without an engine."""

from __future__ import annotations

import pytest

from dockyard.engine.defaults import LOGS, TMP, USER, harden, thread_limits, writable_places
from dockyard.engine.spec import ContainerSpec, Volume
from dockyard.engine.state import EngineInfo, LocalImage


def info(**facts):
    base = {"kind": "docker", "version": "1", "architecture": "amd64", "cpus": 2}
    return EngineInfo(**{**base, "log_driver": "json-file", **facts})


def image(**config):
    return LocalImage(id="sha256:1", config=config)


def hardened(spec=None, config=None, **facts):
    spec = spec or ContainerSpec(image="x", read_only=True)
    return harden(spec, image(**(config or {})), info(**facts))


def test_root_becomes_nobody_with_a_home_and_a_name():
    for user in ("", "0", "root", "0:0"):
        made = hardened(config={"User": user})
        assert made.user == USER
        assert made.environment["HOME"] == "/tmp"
        assert made.environment["USER"] == "app"


def test_an_images_own_user_stays_and_so_does_the_one_asked_for():
    assert hardened(config={"User": "app"}).user is None
    assert hardened(ContainerSpec(image="x", user="0")).user == "0"


def test_an_images_own_home_stays():
    assert "HOME" not in hardened(config={"Env": ["HOME=/home/me"]}).environment


def test_all_capabilities_are_dropped_unless_all_are_asked_for():
    assert hardened().cap_drop == ("ALL",)
    assert hardened(ContainerSpec(image="x", cap_add=("NET_RAW",))).cap_drop == ("ALL",)
    assert hardened(ContainerSpec(image="x", cap_add=("all",))).cap_drop == ()


def test_tmp_can_be_written_and_executed_when_the_root_cant():
    assert hardened().tmpfs == {"/tmp": TMP}
    assert "exec" in TMP.split(",")
    assert "noexec" not in TMP
    assert hardened(ContainerSpec(image="x")).tmpfs == {}


def test_a_tmp_of_ones_own_stays():
    own = Volume(kind="bind", source="/scratch", target="/tmp")
    assert hardened(ContainerSpec(image="x", read_only=True, volumes=(own,))).tmpfs == {}


def test_what_the_app_writes_is_mounted():
    config = {"Labels": {"io.dockyard.writable": "/logs,/logs/old,/app/out,/tmp/x"}}
    made = hardened(config=config)
    assert [v.target for v in made.volumes] == ["/app/out", "/logs"]
    assert all(v.kind == "volume" and not v.source for v in made.volumes)
    mine = Volume(kind="bind", source="/here", target="/logs")
    spec = ContainerSpec(image="x", read_only=True, volumes=(mine,))
    assert [v.source for v in hardened(spec, config).volumes] == ["/here", ""]


def test_places_inside_others_need_no_mount():
    places = writable_places(image(Labels={"io.dockyard.writable": "/a/b,/a,/ab"}))
    assert places == ("/a", "/ab")


@pytest.mark.parametrize(("cpus", "processes"), [(1, 512), (2, 512), (64, 16384)])
def test_the_limit_of_processes_grows_with_the_machine(cpus, processes):
    assert hardened(cpus=cpus).processes == processes


def test_logs_are_rotated_where_the_driver_can():
    assert hardened().log_rotation == LOGS
    assert hardened(log_driver="journald").log_rotation is None


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, "1"), (1.5, "1"), (2, "2"), (8, "8")])
def test_threads_are_as_many_as_may_run_at_once(cpus, threads):
    made = hardened(ContainerSpec(image="x", cpus=cpus))
    assert made.environment["OMP_NUM_THREADS"] == threads
    assert set(thread_limits(cpus).values()) == {threads}


def test_threads_that_somebody_set_stay():
    spec = ContainerSpec(image="x", cpus=2, environment={"OMP_NUM_THREADS": "7"})
    made = hardened(spec, {"Env": ["MKL_NUM_THREADS=3"]})
    assert made.environment["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in made.environment


def test_without_a_limit_libraries_see_the_machine():
    assert "OMP_NUM_THREADS" not in hardened().environment
