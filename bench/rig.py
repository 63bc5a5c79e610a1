"""What a build is measured with: a Docker daemon and a registry of its own, an index, a meter.

Rules: nothing of the machine's own Docker is used or changed: the daemon has its own folder,
socket and containerd, without networks (containers use the host's), and is stopped in the end,
as all that is started here. Nothing listens but on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = Path(entry.path, "stat").read_text()
                parent = int(stat.rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(entry.name))
    return found


def _resident(pid: int) -> int:
    """Bytes that are the process's own: anonymous and shared memory, without mapped files."""
    total = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


class Meter:
    """The peak of the memory of some processes, all their descendants, and containers' shims."""

    def __init__(self, roots: Sequence[int], *, shims: str = "") -> None:
        self.roots = list(roots)
        self.shims = shims
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            children = _children()
            todo = list(self.roots)
            if self.shims:  # they are nobody's children any more
                todo += [pid for pid in children.get(1, []) if self._is_shim(pid)]
            seen: set[int] = set()
            while todo:
                pid = todo.pop()
                if pid not in seen:
                    seen.add(pid)
                    todo += children.get(pid, [])
            self.peak = max(self.peak, sum(map(_resident, seen)))

    def _is_shim(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return self.shims.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False


@dataclass(kw_only=True)
class Run:
    """One measured command: seconds, peak memory in bytes, what it printed."""

    seconds: float
    memory: int
    output: str


def measure(
    command: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    watch: Sequence[int] = (),
    shims: str = "",
) -> Run:
    """Run a command to its end; `watch`: daemons that work for it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)),
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Meter([process.pid, *watch], shims=shims) as meter:
        output, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{output[-4000:]}")
    return Run(seconds=seconds, memory=meter.peak, output=output)


@dataclass
class Docker:
    """A Docker daemon in a folder of its own."""

    folder: Path
    buildx: Path
    pid: int = 0
    bridge: str = "none"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def env(self, **extra: str) -> dict[str, str]:
        """The environment for clients."""
        config = self.folder / "config"
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(config), **extra}

    def start(self) -> None:
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.buildx, plugins / "docker-buildx")
        log = (self.folder / "dockerd.log").open("wb")
        containerd = self.folder / "containerd"
        containerd.mkdir(exist_ok=True)
        # A daemon without a bridge deletes docker0 when it starts, and with it the network of the
        # daemon that runs on this machine. The bridge has no other use: all here is host network.
        name = f"bench{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            link = ["ip", "link", "add", "name", name, "type", "bridge"]
            if subprocess.run(link, capture_output=True, check=False).returncode == 0:
                self.bridge = name
        self._process = subprocess.Popen(
            [
                "dockerd",
                f"--host={self.host}",
                f"--data-root={self.folder}/data",
                f"--exec-root={self.folder}/exec",
                f"--pidfile={self.folder}/docker.pid",
                f"--containerd-namespace=bench-{os.getpid()}",
                f"--containerd-plugins-namespace=bench-plugins-{os.getpid()}",
                f"--bridge={self.bridge}",
                "--iptables=false",
                "--ip6tables=false",
            ],
            stdout=log,
            stderr=log,
        )
        self.pid = self._process.pid
        for _ in range(150):
            done = subprocess.run(
                ["docker", "version"], env=self.env(), capture_output=True, check=False
            )
            if done.returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.2)
        raise SystemExit((self.folder / "dockerd.log").read_text()[-3000:])

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        if self.bridge != "none":
            subprocess.run(["ip", "link", "delete", self.bridge], check=False)

    def run(self, *arguments: str | Path, check: bool = True, **extra: str) -> str:
        """Run the client; return what it printed."""
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env=self.env(**extra),
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise SystemExit(f"docker {' '.join(map(str, arguments))}\n{done.stderr[-3000:]}")
        return done.stdout

    def measure(self, *arguments: str | Path, cwd: Path | None = None, **extra: str) -> Run:
        """Run the client and measure it with the daemon and the containers."""
        return measure(
            ["docker", *arguments],
            env=self.env(**extra),
            cwd=cwd,
            watch=[self.pid],
            shims=str(self.folder),
        )

    def size(self, image: str) -> int:
        """Bytes of the image, uncompressed."""
        return int(self.run("image", "inspect", "-f", "{{.Size}}", image))

    def first_answer(self, image: str, path: str, *, port: int, env: dict[str, str]) -> float:
        """Seconds from `docker run` to the first answer with status 200."""
        start = time.perf_counter()
        variables = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        name = self.run("run", "-d", "--network=host", *variables, image).strip()
        try:
            for _ in range(6000):
                with contextlib.suppress(OSError):
                    url = f"http://127.0.0.1:{port}{path}"
                    with urllib.request.urlopen(url, timeout=5) as answer:
                        answer.read()
                        return time.perf_counter() - start
                time.sleep(0.01)
            raise SystemExit(self.run("logs", name, check=False))
        finally:
            self.run("rm", "-f", name)


@dataclass
class Registry:
    """The distribution registry, keeping its blobs in a folder."""

    program: Path
    folder: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        self.port = free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}'}}\n"
        )
        self._process = subprocess.Popen(
            [self.program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.1)
        raise SystemExit("the registry doesn't start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def clear(self) -> None:
        """Begin again with nothing."""
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def size(self, repository: str, tag: str) -> int:
        """Bytes of the image's layers as pushed, compressed."""
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        url = f"http://127.0.0.1:{self.port}/v2/{repository}/manifests/{tag}"
        request = urllib.request.Request(url, headers={"Accept": kind})
        with urllib.request.urlopen(request) as answer:
            manifest = json.load(answer)
        return sum(layer["size"] for layer in manifest["layers"])


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder's files on loopback; yields the URL."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
