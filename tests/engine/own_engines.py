"""Engines of the tests' own: a Podman service, a dockerd; each with folders that are removed.

Rules: nothing is shared with an engine of the machine; a server is stopped by its own process id,
and the mounts that it left are taken away. Without root or the program there is none, and the
reason is said.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from dockyard.engine.docker import DockerEngine
from dockyard.engine.local.probe import why_not
from dockyard.engine.local.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Server:
    """A server of the Engine API in a session of its own; it can be stopped and started again."""

    def __init__(self, folder: Path, command: Sequence[str], environment: dict[str, str]) -> None:
        self.folder = folder
        self.socket = folder / "engine.sock"
        self._command = [*command]
        self._environment = os.environ | environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.skip(f"it doesn't start here: {self.last_words()}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def last_words(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        told = [line for line in lines if "level=info" not in line]
        return (told or lines or ["no reason given"])[-1][-300:]

    def engine(self) -> DockerEngine:
        return DockerEngine(docker.APIClient(base_url=self.host, version="auto"))

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(10)
            probe.connect(str(self.socket))
            probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in probe.recv(64)
        return False


def why_no_local(folder: Path) -> str:
    """Why the local engine can't run with a store in this folder, or ""."""
    return why_not(LocalStore(folder))


@contextlib.contextmanager
def own_podman() -> Iterator[Server]:
    """Podman's Docker-compatible service with storage of its own."""
    if os.getuid() != 0:
        pytest.skip("a Podman of the tests' own needs root here")
    if shutil.which("podman") is None:
        pytest.skip("no podman here (Debian's packages podman, netavark, aardvark-dns, catatonit)")
    with _folder() as folder:
        # Limits may not be raised everywhere, as Podman would by default; it lowers its own
        # number of processes to what the kernel has.
        most = int(Path("/proc/sys/kernel/pid_max").read_text())
        files, processes = (
            resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
        )
        processes = most if processes < 0 else min(most, processes)
        limits = [f'"nofile={files}:{files}"', f'"nproc={processes}:{processes}"']
        settings = folder / "containers.conf"
        settings.write_text(
            f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n"
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            # Else the monitor of each `exec` waits five minutes before it goes.
            "exit_command_delay = 1\n"
            '[network]\nnetwork_backend = "netavark"\n'
        )
        folders = {"root": "root", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "net"}
        places = [word for o, name in folders.items() for word in (f"--{o}", str(folder / name))]
        command = ["podman", *places, "system", "service", "--time", "0"]
        server = Server(
            folder,
            [*command, f"unix://{folder / 'engine.sock'}"],
            {"CONTAINERS_CONF": str(settings)},
        )
        server.start()
        try:
            yield server
        finally:
            # Its containers outlive the service.
            engine = server.engine()
            for state in engine.containers(label=None):
                engine.remove(state.id, force=True)
            for network in engine.networks():
                engine.remove_network(network.name)
            server.stop()
            _remove_forwarding(folder / "tmp")


def _remove_forwarding(events: Path) -> None:
    """Take away the ports that Podman forgets to, of containers that die while they start.

    They would lead whoever gets such a port next to nowhere. events: the folder of Podman's log,
    which names the containers that it had.
    """
    if shutil.which("iptables") is None:
        return
    ours: set[str] = set()
    for log in events.rglob("events.log"):
        ours.update(re.findall(r"\b[0-9a-f]{64}\b", log.read_text()))
    table = ["iptables", "-w", "-t", "nat"]
    rules = subprocess.run([*table, "-S"], capture_output=True, text=True, check=True).stdout
    for rule in rules.splitlines():
        words = shlex.split(rule)
        if words[0] == "-A" and ours.intersection(re.findall(r"[0-9a-f]{64}", rule)):
            subprocess.run([*table, "-D", *words[1:]], check=True)


@contextlib.contextmanager
def own_dockerd(
    *options: str, folder: Path | None = None, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """A dockerd with storage of its own, without a network bridge unless options say so."""
    if os.getuid() != 0:
        pytest.skip("a dockerd of the tests' own needs root")
    if shutil.which("dockerd") is None:
        pytest.skip("no dockerd here (Debian's package docker.io)")
    with _folder() if folder is None else contextlib.nullcontext(folder) as place:
        name = f"dockyard-test-{secrets.token_hex(4)}"
        # A network of its own: without a bridge it would take docker0 from the machine's engine.
        command = ["unshare", "--net", "dockerd", "--host", f"unix://{place / 'engine.sock'}"]
        command += ["--data-root", str(place / "data"), "--exec-root", str(place / "exec")]
        command += ["--pidfile", str(place / "pid"), "--iptables=false", "--bridge=none"]
        command += ["--containerd-namespace", name, "--containerd-plugins-namespace", f"{name}-p"]
        server = Server(place, [*command, *options], environment or {})
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # On disk and with a short name: a socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="dockyard-engine-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            mounted = line.split()[1]
            if mounted.startswith(f"{folder}/"):
                subprocess.run(["umount", "-l", mounted], check=True)
        shutil.rmtree(folder)
