"""Both engines, each with the same small images, so that one suite of tests runs against both."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from own_engines import own_podman, why_no_local
from small_image import busybox, in_chunks, make_archive, make_layer

from dockyard.engine.api import ContainerSpec, Port
from dockyard.engine.local import LocalEngine
from dockyard.engine.local.store import LocalStore
from dockyard.engine.memory import MemoryEngine, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockyard.engine.api import Engine
    from dockyard.engine.ready import Running

# Each command twice: as a busybox script, and as a Python function for the engine in memory.
SCRIPTS = {
    "hello": "echo to stdout; echo to stderr >&2",
    "fail": "echo no model at /app/model.h5 >&2; exit 3",
    "show": 'echo "$GREETING $1"',
    "sleeper": "echo waiting; exec sleep 1000",
    "polite": "trap 'echo bye; exit 5' TERM INT; echo waiting; while :; do sleep 0.05; done",
    "stubborn": "trap '' TERM INT; echo waiting; while :; do sleep 0.05; done",
    "server": "exec httpd -f -p $PORT -h /",
    "slow_server": "sleep 0.4; exec httpd -f -p $PORT -h /",
    "becomes_healthy": "sleep 0.3; echo 1 >/ok; sleep 1000",
    "check": "test -e /ok",
    "repeat": "cat",
    "find": 'nslookup "$1" 2>/dev/null | grep -q "^Name:"',
    "keep": 'echo "$2" >"$1"',
    "read": 'cat "$1"',
    "greedy": "exec tail /dev/zero",
    "chatty": "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
}


def hello(process: Process) -> int:
    process.write("to stdout\n")
    process.write("to stderr\n", "stderr")
    return 0


def fail(process: Process) -> int:
    process.write("no model at /app/model.h5\n", "stderr")
    return 3


def show(process: Process) -> int:
    process.write(f"{process.environment.get('GREETING', '')} {process.command[1]}\n")
    return 0


def sleeper(process: Process) -> int:
    process.write("waiting\n")
    process.sleep()
    return 0


def polite(process: Process) -> int:
    process.write("waiting\n")
    process.wait_signal()
    process.write("bye\n")
    return 5


def stubborn(process: Process) -> int:
    process.ignore("SIGTERM", "SIGINT")
    return sleeper(process)


def server(process: Process) -> int:
    listener = process.listen(8080)
    listener.settimeout(0.02)
    open_connections = []
    while process.wait_signal(0) is None:
        try:
            open_connections.append(listener.accept())
        except TimeoutError:
            continue
    return 143


def slow_server(process: Process) -> int:
    process.sleep(0.4)
    return server(process)


def becomes_healthy(process: Process) -> int:
    process.sleep(0.3)
    process.files["/ok"] = b"1"
    process.sleep()
    return 0


def check(process: Process) -> int:
    return 0 if "/ok" in process.files else 1


def chatty(process: Process) -> int:
    for number in range(3000):
        process.write(f"line {number}\n")
    return 0


def repeat(process: Process) -> int:
    while piece := process.read():
        process.write(piece.decode())
    return 0


def find(process: Process) -> int:
    return 0 if process.find_host(process.command[1]) else 1


def keep(process: Process) -> int:
    process.files[process.command[1]] = f"{process.command[2]}\n".encode()
    return 0


def read(process: Process) -> int:
    process.write(process.files[process.command[1]].decode())
    return 0


def greedy(process: Process) -> int:
    raise MemoryError


PROGRAMS = {
    f"/bin/{program.__name__}": program
    for program in (
        hello,
        fail,
        show,
        sleeper,
        polite,
        stubborn,
        server,
        slow_server,
        becomes_healthy,
        check,
        chatty,
        repeat,
        find,
        keep,
        read,
        greedy,
    )
}


@dataclass
class Ground:
    """An engine with images loaded, and what makes archives and specs for it."""

    engine: Engine
    label: str
    layers: list[bytes]
    image: str
    checked: str
    sick: str
    foreign: str

    def config(self, **config: Any) -> dict[str, Any]:
        name, _, value = self.label.partition("=")
        # On an engine without a network of its own an app is asked for another port by PORT.
        environment = {"Env": ["PORT=8080"]}
        return {"Cmd": ["/bin/hello"], "Labels": {name: value}, **environment, **config}

    def spec(self, command: str | None = None, **options: Any) -> ContainerSpec:
        name, _, value = self.label.partition("=")
        options = {"image": self.image, "grace": 5, "labels": {name: value}, **options}
        return ContainerSpec(command=(f"/bin/{command}",) if command else None, **options)


def _health(**seconds: float) -> dict[str, Any]:
    times = {name: int(value * 1e9) for name, value in seconds.items() if name != "Retries"}
    return {"Test": ["CMD", "/bin/check"], **times, "Retries": int(seconds.get("Retries", 3))}


def _ground(engine: Engine, label: str, binary: bytes) -> Ground:
    scripts = {f"bin/{name}": f"#!/bin/sh\n{text}\n".encode() for name, text in SCRIPTS.items()}
    tools = ("sh", "echo", "sleep", "httpd", "test", "[", "cat", "nslookup", "grep", "tail")
    layers = [
        make_layer({"bin/busybox": binary, **{f"bin/{tool}": "busybox" for tool in tools}}),
        make_layer(scripts),
    ]
    ground = Ground(engine, label, layers, "", "", "", "")
    prefix = f"dockyard-test-{secrets.token_hex(4)}"
    architecture = engine.info.architecture
    foreign = "arm64" if architecture == "amd64" else "amd64"

    def load(name: str, architecture: str = architecture, **config: Any) -> str:
        archive = make_archive(
            f"{prefix}:{name}", layers, ground.config(**config), architecture=architecture
        )
        return engine.load(in_chunks(archive))[0]

    ground.image = load("plain", ExposedPorts={"8080/tcp": {}})
    ground.checked = load("checked", Healthcheck=_health(Interval=30))
    ground.sick = load("sick", Healthcheck=_health(Interval=0.2, Timeout=5, Retries=1))
    # Its program has another processor's header, so that it is refused as a real one would be.
    machine = {"arm64": b"\x28\x00", "amd64": b"\xb7\x00"}[architecture]
    layers = [make_layer({"bin/hello": binary[:18] + machine + binary[20:]})]
    ground.foreign = load("foreign", foreign)
    return ground


@pytest.fixture(scope="session")
def memory_ground(session_label: str) -> Ground:
    return _ground(MemoryEngine(PROGRAMS), session_label, b"\x7fELF, but never run" * 8)


@pytest.fixture(scope="session")
def docker_ground(docker_engine: Engine, session_label: str) -> Ground:
    return _ground(docker_engine, session_label, busybox())


@pytest.fixture(scope="session")
def podman_ground(session_label: str) -> Iterator[Ground]:
    with own_podman() as server:
        yield _ground(server.engine(), session_label, busybox())


@pytest.fixture(scope="session")
def local_ground(tmp_path_factory: pytest.TempPathFactory, session_label: str) -> Ground:
    folder = tmp_path_factory.mktemp("local")
    if reason := why_no_local(folder):
        pytest.skip(f"the local engine: {reason}")
    return _ground(LocalEngine(LocalStore(folder)), session_label, busybox())


@pytest.fixture(
    params=["memory", pytest.param("docker", marks=pytest.mark.docker), "podman", "local"]
)
def ground(request: pytest.FixtureRequest) -> Ground:
    """The same images on each engine."""
    found: Ground = request.getfixturevalue(f"{request.param}_ground")
    return found


@pytest.fixture
def launched(ground: Ground) -> Iterator[Callable[..., Running]]:
    """Start containers that are removed when the test ends."""
    from dockyard.engine.ready import launch

    started: list[Running] = []

    def start(command: str | None = None, **options: Any) -> Running:
        running = launch(ground.engine, ground.spec(command, **options))
        started.append(running)
        return running

    yield start
    for running in started:
        ground.engine.remove(running.id, force=True)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def published(free_port: int) -> Port:
    return Port(container=8080, host=free_port, host_ip="127.0.0.1")
