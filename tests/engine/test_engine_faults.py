"""What goes wrong with an engine: it stops in mid-run, and it has a million lines to tell."""

from __future__ import annotations

import threading
import time
import tracemalloc

import pytest
from own_engines import own_dockerd
from small_image import busybox, in_chunks, make_archive, make_layer

from dockyard.engine.api import ContainerSpec, Restart
from dockyard.engine.following import follow, lines_of
from dockyard.engine.state import LostEngineError

LINES = 1_000_000


@pytest.fixture(scope="module")
def server():
    with own_dockerd() as made:
        files = {"bin/busybox": busybox()}
        files |= {f"bin/{tool}": "busybox" for tool in ("sh", "sleep", "echo", "yes", "head")}
        archive = make_archive("tiny:1", [make_layer(files)], {"Cmd": ["/bin/sh"]})
        made.engine().load(in_chunks(archive))
        yield made


def start(engine, script, **options):
    command = ("/bin/sh", "-c", script)
    number = engine.create(
        ContainerSpec(image="tiny:1", command=command, network="none", grace=1, **options)
    )
    engine.start(number)
    return number


def test_a_million_lines_are_read_in_constant_memory(server):
    engine = server.engine()
    number = start(engine, f"yes a line of the log | head -n {LINES}")
    assert engine.wait(number) == 0
    tracemalloc.start()
    try:
        count = sum(1 for _ in lines_of(engine.logs(number)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == LINES
    assert peak < 8 << 20, f"{peak} bytes for some 20 MB of log"


def test_followed_logs_go_on_when_the_engine_is_back(server):
    engine = server.engine()
    script = "while :; do echo alive; sleep 0.2; done"
    number = start(engine, script, restart=Restart(policy="always"))
    lost, again = threading.Event(), threading.Event()
    heard = []

    def listen():
        for chunk in follow(engine, number, lost=lost.set):
            heard.append(chunk)
            if lost.is_set():
                again.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    deadline = time.monotonic() + 20
    while not heard and time.monotonic() < deadline:
        time.sleep(0.05)
    server.stop()
    assert lost.wait(60)
    with pytest.raises(LostEngineError, match="connection to the engine broke"):
        engine.container(number)
    server.start()
    assert again.wait(60)
    assert engine.container(number).status == "running"
    engine.remove(number, force=True)
