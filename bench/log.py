"""What the prediction log costs the server: CPU per request and latency, with it and without.

    python bench/log.py [--rounds 5] [--requests 20000] [--url postgresql://…]

Serves examples/stack's model with Dockyard's server three ways in turn, in one run: without a log,
with SQLite, and with PostgreSQL where --url names one. The load is 16 connections at full speed,
then 1 connection at a steady half of that rate, each request one picture as JSON. The server has
the first core, the load the others. Printed as ratios to the server without a log in the same
round; the median of the rounds counts. CPU is the server process's own, all its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rig import free_port

MODEL = Path(__file__).parents[1] / "examples" / "stack" / "model.onnx"
CONNECTIONS = 16
BODY = json.dumps({"images": [[float(n % 17) for n in range(row, row + 8)] for row in range(8)]})
REQUEST = (
    f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
).encode()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latencies: list[float]
) -> None:
    """One request and its answer."""
    started = time.perf_counter()
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    latencies.append(time.perf_counter() - started)


async def load(port: int, connections: int, requests: int, rate: float | None) -> list[float]:
    """Send requests over some connections, at full speed or at a rate per second; the latencies."""
    latencies: list[float] = []

    async def client(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = time.perf_counter()
        for _ in range(count):
            if rate is not None:
                due += connections / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await ask(reader, writer, latencies)
        writer.close()

    await asyncio.gather(*(client(requests // connections) for _ in range(connections)))
    return latencies


def measure(environ: dict[str, str], requests: int, rate: float | None) -> dict[str, float]:
    """CPU per request in microseconds, requests per second at full speed, p99 at half of that."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dockyard-log-") as folder:
        given = {"LOG_DIR": folder} if environ else {}
        words = [sys.executable, "-m", "dockyard_serve", str(MODEL)]
        server = subprocess.Popen(
            ["taskset", "-c", "0", *words, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, "PREDICTION_LOG": "off", **given, **environ},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(port)
            asyncio.run(load(port, CONNECTIONS, requests // 10, None))
            before, started = cpu_seconds(server.pid), time.perf_counter()
            asyncio.run(load(port, CONNECTIONS, requests, None))
            speed = requests / (time.perf_counter() - started)
            # What the log has still to do belongs to the requests that caused it.
            time.sleep(1.0)
            cpu = (cpu_seconds(server.pid) - before) / requests
            half = asyncio.run(load(port, CONNECTIONS, requests // 2, (rate or speed) / 2))
        finally:
            server.terminate()
            server.wait()
    p99 = statistics.quantiles(half, n=100)[98]
    return {"cpu": cpu * 1e6, "speed": speed, "p99": p99 * 1e3}


def wait_until_ready(port: int) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            asyncio.run(load(port, 1, 1, None))
        except (OSError, AssertionError, asyncio.IncompleteReadError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main() -> None:
    """Measure the rounds and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--url", help="a PostgreSQL database to log to")
    given = parser.parse_args()
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {0})
    ways = {"no log": {}, "SQLite": {"PREDICTION_LOG": "sqlite"}}
    if given.url:
        ways["PostgreSQL"] = {"PREDICTION_LOG": "postgres", "DATABASE_URL": given.url}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        rate = None
        for name, environ in ways.items():
            result = measure(environ, given.requests, rate)
            rate = rate or result["speed"]
            found[name].append(result)
    print("| | CPU per request | ratio | p99 at half load | ratio |\n|---|--:|--:|--:|--:|")
    for name, results in found.items():
        cells = []
        for key, unit in (("cpu", "µs"), ("p99", "ms")):
            pairs = zip(results, found["no log"], strict=True)
            ratio = statistics.median(result[key] / base[key] for result, base in pairs)
            value = statistics.median(result[key] for result in results)
            cells += [f"{value:.2f} {unit}" if key == "p99" else f"{value:.0f} {unit}"]
            cells += [f"{ratio:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
