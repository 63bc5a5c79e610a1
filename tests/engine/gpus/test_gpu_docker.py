"""`--gpus` in a real Docker, whose GPUs are a fake driver and a stand-in for NVIDIA's hook.

dockerd 20.10 hands GPUs out when `nvidia-container-runtime-hook` is on its PATH: it sets
NVIDIA_VISIBLE_DEVICES and has the runtime run the hook before the container starts. The stand-in
puts an `nvidia-smi` into the container that lists what it was told, as the real one would see.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from fake_driver import dockyard, listed
from own_engines import own_dockerd
from small_image import busybox, in_chunks, make_archive, make_layer

HOOK = f"""#!{sys.executable}
import json, os, sys
state = json.load(sys.stdin)
config = json.load(open(os.path.join(state["bundle"], "config.json")))
env = dict(item.partition("=")[::2] for item in config["process"]["env"])
if not os.path.exists("@deaf"):
    path = os.path.join(config["root"]["path"], "bin/nvidia-smi")
    with open(path, "w") as file:
        print("#!/bin/sh", file=file)
        for number, uuid in enumerate(env["NVIDIA_VISIBLE_DEVICES"].split(",")):
            print(f"echo 'GPU {{number}}: Fake H100 (UUID: {{uuid}})'", file=file)
    os.chmod(path, 0o755)
"""
SCRIPTS = {
    "show": "echo $NVIDIA_VISIBLE_DEVICES; exec sleep 1000",
    "quick": "echo $NVIDIA_VISIBLE_DEVICES",
}


class Machine:
    """A dockerd of our own that hands out GPUs, and the command line beside it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.image = ""

    @property
    def deaf(self) -> Path:
        """While this file is there, the hook does nothing."""
        return self.folder / "deaf"

    def run(self, *options: str, command: str = "show", env: dict[str, str] | None = None):
        arguments = ("run", "-q", "-d", "--no-publish", *options, self.image)
        return dockyard(*arguments, "--", f"/bin/{command}", env={**self.env, **(env or {})})

    def devices(self, name: str) -> str:
        """What the container itself says that it got."""
        from dockyard.engine.connect import find_engine

        engine = find_engine(self.env)
        return b"".join(chunk.data for chunk in engine.logs(name)).decode().strip()

    def holders(self) -> dict[str, list[str]]:
        return {each["name"]: each["devices"] for each in listed(self.env)["holders"]}


@pytest.fixture(scope="module")
def gpu_docker(driver_folder, tmp_path_factory):
    tools = tmp_path_factory.mktemp("tools")
    hook = tools / "nvidia-container-runtime-hook"
    hook.write_text(HOOK.replace("@deaf", str(tools / "deaf")))
    hook.chmod(0o755)
    with own_dockerd(environment={"PATH": f"{tools}:{os.environ['PATH']}"}) as server:
        machine = Machine(
            tools,
            {
                **os.environ,
                "DOCKER_HOST": server.host,
                "LD_LIBRARY_PATH": str(driver_folder),
                "FAKE_GPUS": "4",
                "DOCKYARD_GPU_LEASES": str(tools / "leases.json"),
            },
        )
        machine.image = load_image(machine.env)
        yield machine


def load_image(env):
    from dockyard.engine.connect import find_engine

    files = {f"bin/{name}": f"#!/bin/sh\n{text}\n".encode() for name, text in SCRIPTS.items()}
    tools = {f"bin/{name}": "busybox" for name in ("sh", "echo", "sleep")}
    layer = make_layer({"bin/busybox": busybox(), **tools, **files})
    config = {"Cmd": ["/bin/show"], "Env": ["NVIDIA_REQUIRE_CUDA=cuda>=12.1"]}
    archive = make_archive("gpus:1", [layer], config)
    return find_engine(env).load(in_chunks(archive))[0]


@pytest.fixture
def docker(gpu_docker):
    """The machine, with nothing running on it afterwards."""
    yield gpu_docker
    from dockyard.engine.connect import find_engine

    engine = find_engine(gpu_docker.env)
    for state in engine.containers(label=None):
        engine.remove(state.id, force=True)
    with suppress(FileNotFoundError):
        gpu_docker.deaf.unlink()


def test_the_container_gets_what_was_leased_and_the_list_says_so(docker):
    done = docker.run("--gpus", "2", "--name", "train")
    assert done.returncode == 0, done.stderr
    got = docker.devices("train")
    assert docker.holders() == {"train": got.split(",")}
    assert len(set(got.split(","))) == 2


def test_the_ones_with_most_free_memory_are_taken(docker):
    env = {"FAKE_GPU_USED": "0:30,1:20,3:10"}
    assert docker.run("--gpus", "2", "--name", "roomy", env=env).returncode == 0
    uuids = [gpu["uuid"] for gpu in listed(docker.env)["gpus"]]
    assert docker.devices("roomy").split(",") == [uuids[2], uuids[3]]


def test_named_devices_are_passed_as_uuids(docker):
    assert docker.run("--gpus", "device=3,1", "--name", "named").returncode == 0
    uuids = [gpu["uuid"] for gpu in listed(docker.env)["gpus"]]
    assert docker.devices("named").split(",") == [uuids[3], uuids[1]]


def test_ten_at_once_on_four_gpus_are_four_holders_and_six_refusals(docker):
    names = [f"rush-{number}" for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda name: docker.run("--gpus", "1", "--name", name), names))
    started = [name for name, each in zip(names, done, strict=True) if each.returncode == 0]
    refused = [each.stderr for each in done if each.returncode]
    assert len(started) == 4, refused
    assert len({docker.devices(name) for name in started}) == 4
    assert len(refused) == 6
    for text in refused:
        assert text.startswith("error: 1 GPU is asked for, and none of 4 is free\n")
        assert "--wait" in text


def test_a_killed_holder_frees_its_gpus_and_who_waits_gets_them(docker):
    assert docker.run("--gpus", "all", "--name", "greedy").returncode == 0
    assert docker.run("--gpus", "1").returncode == 1
    command = [sys.executable, "-m", "dockyard", "run", "-d", "--no-publish", "--gpus", "1"]
    command += ["--wait", "--name", "patient", docker.image, "--", "/bin/show"]
    waiting = subprocess.Popen(command, env=docker.env, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    assert "Waiting" in waiting.stderr.readline()
    (pid,) = [h["pid"] for h in listed(docker.env)["holders"] if h["name"] == "greedy"]
    os.kill(pid, signal.SIGKILL)
    assert waiting.wait(30) == 0, waiting.stderr.read()
    assert list(docker.holders()) == ["patient"]


def test_a_command_that_is_killed_while_it_starts_holds_nothing(docker):
    """Its lease names a process that is gone."""
    code = (
        "import os, signal; from dockyard.engine.gpus.choose import Holder;"
        "from dockyard.engine.gpus.leases import Lease, open_leases\n"
        "with open_leases() as table:\n"
        "    holder = Holder(name='dead', devices=('GPU-00000000-0000-4000-8000-000000000000',))\n"
        "    table.write([Lease.of(holder, os.getpid())])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env=docker.env, check=False)
    assert "dead" in (docker.folder / "leases.json").read_text()
    assert docker.run("--gpus", "4", "--name", "heir").returncode == 0


def test_a_lost_file_of_leases_is_made_up_from_what_runs(docker):
    assert docker.run("--gpus", "3", "--name", "first").returncode == 0
    (docker.folder / "leases.json").write_text("lost")
    assert docker.run("--gpus", "2").returncode == 1
    assert docker.run("--gpus", "1", "--name", "second").returncode == 0
    assert not set(docker.devices("first").split(",")) & {docker.devices("second")}


def test_a_container_that_asked_for_a_gpu_and_has_none_is_an_error(docker):
    docker.deaf.touch()
    done = docker.run("--gpus", "1", "--name", "blind")
    assert done.returncode == 1
    assert "asked for GPUs and has none" in done.stderr
    assert "nvidia-ctk" in done.stderr
    docker.deaf.unlink()
    assert docker.run("--gpus", "4", "--name", "blind").returncode == 0, "nothing was left"


def test_a_container_that_ends_at_once_was_given_its_gpu(docker):
    done = docker.run("--gpus", "1", "--name", "quick", command="quick")
    assert done.returncode == 0, done.stderr
    assert docker.devices("quick").startswith("GPU-")
    assert docker.holders() == {}


def test_shares_of_memory_are_filled_up_and_called_advisory(docker):
    share = ("--gpus", "1", "--gpu-memory", "50GiB")
    done = [docker.run(*share, "--name", f"share-{number}") for number in range(5)]
    assert [each.returncode for each in done] == [0, 0, 0, 0, 1]
    assert "with 50 GiB of free memory" in done[4].stderr
    assert docker.run("--gpu-memory", "20GiB", "--name", "small").returncode == 0


def test_an_image_for_a_newer_driver_is_refused_before_it_is_started(docker):
    done = docker.run("--gpus", "1", "--name", "new", env={"FAKE_CUDA": "12000"})
    assert done.returncode == 1
    assert "it asks for NVIDIA_REQUIRE_CUDA=cuda>=12.1" in done.stderr
    assert "CUDA up to 12.0" in done.stderr
    asked = json.loads(dockyard("gpus", "--json", env=docker.env).stdout)
    assert asked["holders"] == []


def test_without_a_driver_nothing_is_started(docker):
    done = docker.run("--gpus", "1", env={"FAKE_GPUS": "0"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: no NVIDIA driver found on this machine\n")
