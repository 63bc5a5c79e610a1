"""Servers side by side: the same models, one core for the server, another for the clients.

    python bench/serving/compare.py --work FOLDER [--rounds 3] [--seconds 3] [--networks tiny wide]

Rules: each server is started, asked and stopped in turn, and again in the next round, so that what
else the machine does meets all of them. CPU is that of the server with all its children. Clients
are wrk's, 64 connections on one thread. The peers live in environments of their own in FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from networks import SHAPES, save_all

HERE = Path(__file__).parent
APPS = HERE / "apps"
PEERS = {
    "starlette": ["starlette", "uvicorn[standard]", "orjson"],
    "litserve": ["litserve"],
    "bentoml": ["bentoml"],
    "mlserver": ["mlserver"],
}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contender:
    """A server: the environment it lives in, and the batch it may form."""

    name: str
    peer: str
    batch: int = 1
    form: str = "plain"


CONTENDERS = [
    Contender("floor: Starlette + orjson", "starlette"),
    Contender("Dockyard", "dockyard", 64, "oip"),
    Contender("Dockyard, binary", "dockyard", 64, "binary"),
    Contender("Dockyard, batching off", "dockyard", 1, "oip"),
    Contender("MLServer", "mlserver", 1, "oip"),
    Contender("MLServer, batching", "mlserver", 64, "oip"),
    Contender("LitServe", "litserve"),
    Contender("LitServe, batching", "litserve", 64),
    Contender("BentoML", "bentoml"),
    Contender("BentoML, batching", "bentoml", 64),
]


@dataclass
class Measured:
    """What the rounds gave."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    errors: int = 0


def prepare(work: Path, peers: set[str]) -> None:
    """Make the peers' environments, once."""
    for peer in sorted(peers - {"dockyard"}):
        folder = work / peer
        if not (folder / "made").exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            wanted = [*PEERS[peer], "onnxruntime", "numpy"]
            install = [str(folder / "bin/python"), "-m", "pip", "install", "-q", *wanted]
            subprocess.run(install, check=True)
            (folder / "made").touch()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def command(one: Contender, work: Path, model: Path, port: int) -> tuple[list[str], Path]:
    """What starts a server, and where."""
    bin_ = work / one.peer / "bin"
    if one.peer == "dockyard":
        words = [sys.executable, "-m", "dockyard_serve", str(model), "--name", "model"]
        return [*words, "--threads", "1", "--max-batch-size", str(one.batch)], HERE
    if one.peer == "starlette":
        return [str(bin_ / "uvicorn"), "floor:app", "--no-access-log", "--port", str(port)], APPS
    if one.peer == "litserve":
        return [str(bin_ / "python"), "lit.py"], APPS
    if one.peer == "bentoml":
        return [str(bin_ / "bentoml"), "serve", "bento:Model", "--port", str(port)], APPS
    folder = work / f"mlserver-{one.batch}-{port}"
    folder.mkdir(exist_ok=True)
    settings = {"debug": False, "parallel_workers": 0, "http_port": port, "host": "127.0.0.1"}
    ports = {"grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps(settings | ports))
    batching = {"max_batch_size": one.batch, "max_batch_time": 0.002} if one.batch > 1 else {}
    described = {"name": "model", "implementation": "mls.Model", **batching}
    (folder / "model-settings.json").write_text(json.dumps(described))
    return [str(bin_ / "mlserver"), "start", str(folder)], APPS


def request(one: Contender, network: str) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers as the server takes them."""
    shape = SHAPES[network]
    x = np.random.default_rng(1).random(shape).astype(np.float32)
    if one.form == "plain":
        return "/predict", json.dumps({"x": x.tolist()}).encode(), {}
    tensor: dict[str, object] = {"name": "x", "datatype": "FP32", "shape": shape}
    path = "/v2/models/model/infer"
    if one.form == "oip":
        tensor["data"] = x.reshape(-1).tolist()
        return path, json.dumps({"inputs": [tensor]}).encode(), {}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    wanted = [{"name": "y", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    return path, head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def tree(pid: int) -> list[int]:
    """The process and everything below it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting += map(int, task.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of the tree, of what ended too."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / TICKS


def memory(pid: int) -> float:
    """Proportional memory of the tree, in MB."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
    return total / 1000


@contextlib.contextmanager
def running(
    one: Contender, work: Path, model: Path, network: str
) -> Iterator[tuple[int, int, float]]:
    """The server's pid and port, and the seconds until its first right answer."""
    port = free_port()
    words, folder = command(one, work, model, port)
    if one.peer == "dockyard":
        words += ["--host", "127.0.0.1", "--port", str(port)]
    names = {"MODEL": str(model), "BATCH": str(one.batch), "PORT": str(port)}
    quiet = {"BENTOML_DO_NOT_TRACK": "1", "PYTHONPATH": str(APPS), "OMP_NUM_THREADS": "1"}
    with (work / "server.log").open("ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", "0", *words],
            cwd=folder,
            env={**os.environ, **names, **quiet},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    path, body, headers = request(one, network)
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json", **headers}
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    answer.read()
                break
            except OSError:
                if time.monotonic() - began > 60 or process.poll() is not None:
                    raise SystemExit(f"{one.name} doesn't start: see {work}/server.log") from None
                time.sleep(0.05)
        yield process.pid, port, time.monotonic() - began
    finally:
        children = tree(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for pid in children:  # What a peer leaves behind is ended here.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(10)


LUA = """wrk.method = "POST"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
wrk.headers["Content-Type"] = "application/json"
{headers}
function done(summary, latency, requests)
  local wrong = summary.errors.status + summary.errors.connect + summary.errors.read
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), wrong + summary.errors.timeout))
end
"""


def load(
    work: Path, port: int, one: Contender, network: str, connections: int, seconds: float
) -> tuple[float, float, float, float, int]:
    """Requests, requests per second, median and 99th percentile in ms, and errors."""
    path, body, headers = request(one, network)
    (work / "body").write_bytes(body)
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    (work / "ask.lua").write_text(LUA.format(body=work / "body", headers=lines))
    clients = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    asking = ["-s", str(work / "ask.lua"), f"http://127.0.0.1:{port}{path}"]
    ran = subprocess.run(
        ["taskset", "-c", "1", *clients, *asking], capture_output=True, text=True, check=True
    )
    words = ran.stdout.rpartition("RESULT ")[2].split()
    count, duration, p50, p99, errors = map(float, words)
    return count, count / duration * 1e6, p50 / 1000, p99 / 1000, int(errors)


def measure(
    one: Contender, work: Path, model: Path, network: str, seconds: int, into: Measured
) -> None:
    """One round of a server."""
    with running(one, work, model, network) as (pid, port, start):
        into.start.append(start)
        load(work, port, one, network, 64, 1)
        before = cpu_seconds(pid)
        count, rate, p50, p99, errors = load(work, port, one, network, 64, seconds)
        into.cpu.append((cpu_seconds(pid) - before) / max(count, 1) * 1e6)
        into.rate.append(rate)
        into.p50.append(p50)
        into.p99.append(p99)
        into.errors += errors
        into.alone.append(load(work, port, one, network, 1, 1)[2])
        into.memory.append(memory(pid))
        before = cpu_seconds(pid)
        time.sleep(1)
        into.idle.append(cpu_seconds(pid) - before)


def table(network: str, results: dict[str, Measured]) -> str:
    """A network's results in Markdown, medians of the rounds."""
    floor = statistics.median(results[CONTENDERS[0].name].cpu)
    lines = [
        f"### {network}",
        "",
        "| server | CPU per request, µs | × floor | requests/s | p50, ms | p99, ms "
        "| p50 alone, ms | idle CPU | memory, MB | start, s | errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        middle = statistics.median
        cpu = middle(one.cpu)
        lines.append(
            f"| {name} | {cpu:,.0f} | {cpu / floor:.2f} | {middle(one.rate):,.0f} "
            f"| {middle(one.p50):.2f} | {middle(one.p99):.1f} | {middle(one.alone):.2f} "
            f"| {middle(one.idle):.0%} | {middle(one.memory):.0f} | {middle(one.start):.1f} "
            f"| {one.errors} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(SHAPES))
    parser.add_argument("--only", nargs="+", help="environments to compare, such as dockyard")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "serving.md")
    given = parser.parse_args()
    chosen = [one for one in CONTENDERS if not given.only or one.peer in given.only]
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    prepare(given.work, {one.peer for one in chosen})
    models = save_all(given.work / "networks")
    parts = []
    for network in given.networks:
        results = {one.name: Measured() for one in chosen}
        for _ in range(given.rounds):
            for one in chosen:
                into = results[one.name]
                measure(one, given.work, models[network], network, given.seconds, into)
        parts.append(table(network, results))
        print(parts[-1], flush=True)
    busy = os.getloadavg()[0]
    head = (
        "# Servers side by side\n\n"
        f"`python bench/serving/compare.py`: {given.rounds} rounds of {given.seconds} s, 64 "
        "connections, medians; one core for the server, another for the clients. Load of the "
        f"machine at the end: {busy:.1f} on {os.cpu_count()} cores.\n\n"
    )
    given.out.write_text(head + "\n".join(parts))


if __name__ == "__main__":
    main()
