"""A proxy before the registry that counts the bytes each way, for what doesn't count them itself.

Rules: bytes are passed on as they come and nothing is changed, so the registry's clients see the
registry; it listens on 127.0.0.1 only.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable


class CountingProxy:
    """Passes connections on to `port`; sent is what clients sent, received what they got."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        self.received = 0
        self._lock = threading.Lock()

    def __enter__(self) -> CountingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def reset(self) -> None:
        """Count from nothing."""
        with self._lock:
            self.sent = self.received = 0

    @property
    def moved(self) -> int:
        """Bytes in both directions."""
        return self.sent + self.received

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._target()))
            with server, selectors.DefaultSelector() as ready:
                ready.register(client, selectors.EVENT_READ, (server, True))
                ready.register(server, selectors.EVENT_READ, (client, False))
                while True:
                    for key, _ in ready.select():
                        other, outward = key.data
                        data = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                        if not data:
                            return
                        other.sendall(data)
                        with self._lock:
                            if outward:
                                self.sent += len(data)
                            else:
                                self.received += len(data)
