"""Clients that ask over and over on connections of their own, and what they saw."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Seen:
    """Answers by status; bodies that differ; what was lost: sent, and never answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    bodies: set[bytes] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    refused: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def clients(port: int, count: int, path: str, body: bytes, *, keep: Callable[[bytes], bytes]):
    """`count` clients on kept connections while the block runs; a refused connection ends one.

    A kept connection on which the server hung up before it read the request isn't a loss: HTTP has
    clients send that again (RFC 9110 9.2.2), which is told by no byte of an answer having come.
    """
    seen = Seen()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        fresh = True
        while not seen.stop.is_set():
            try:
                if connection.sock is None:
                    fresh = True
                    connection.connect()
            except ConnectionRefusedError:
                seen.refused += 1
                return
            except OSError as error:
                seen.lost.append(f"connecting: {error!r}")
                return
            begun = False
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                begun = True
                seen.bodies.add(keep(answer.read()))
                seen.statuses[answer.status] += 1
                fresh = False
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                hung_up = isinstance(error, ConnectionResetError | BrokenPipeError)
                if fresh or begun or not hung_up:
                    seen.lost.append(repr(error))
                    return

    threads = [threading.Thread(target=ask, name="load client") for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.stop.set()
        for thread in threads:
            thread.join(60)
