"""Where the app listens, how one asks whether it works, and where it writes.

Rules: a port comes from the configuration, the command, the call that starts the server, an
environment variable named PORT, a Dockerfile, else from the framework. A health check asks a route
that is there for it, else opens a TCP connection; where a server accepts connections before it has
loaded the app, it must answer. Nothing in the image but Python is needed to ask.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from dockyard.app.detect.decision import Decision
from dockyard.app.values import is_reserved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.app.detect.facts import Module

HEALTH_ROUTES = (
    *("/healthz", "/health", "/readyz", "/ready", "/livez", "/ping", "/api/health", "/v1/health"),
    *("/health/ready", "/health/live", "/healthcheck", "/health-check", "/_health", "/status"),
)
_PORT_OPTIONS = ("--port", "-p", "--server.port", "--bind", "-b", "--server-port", "--http-port")
_WRITE_NAMES = re.compile(
    r"(?:.*_)?(?:LOGS?|CACHE|UPLOADS?|OUTPUTS?|TMP|TEMP|RESULTS?|RUNS?|TRACES?)_(?:DIR|PATH|FOLDER|ROOT)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How an engine asks whether the container works.

    kind: "http" asks path on port, "answer" is content with any answer to HTTP on port, "tcp"
    connects to port, "command" runs command.
    """

    kind: Literal["http", "answer", "tcp", "command"]
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()
    interval: timedelta = timedelta(seconds=10)
    timeout: timedelta = timedelta(seconds=5)
    start_period: timedelta = timedelta(seconds=120)
    retries: int = 3

    def words(self, python: str = "/opt/venv/bin/python") -> tuple[str, ...]:
        """The command that asks, run in the container: exit code 0 means healthy."""
        if self.kind == "command":
            return self.command
        seconds = max(1, int(self.timeout.total_seconds()))
        if self.kind == "tcp":
            code = (
                "import socket; "
                f"socket.create_connection(('127.0.0.1', {self.port}), {seconds}).close()"
            )
        else:
            # OPTIONS: frameworks answer it without running the app's own functions.
            ask, failed = f"'GET', {self.path!r}", "c.getresponse().status >= 400"
            if self.kind == "answer":
                ask, failed = "'OPTIONS', '/'", "not c.getresponse()"
            code = (
                "import http.client as h; "
                f"c = h.HTTPConnection('127.0.0.1', {self.port}, timeout={seconds}); "
                f"c.request({ask}); raise SystemExit({failed})"
            )
        # Isolated and without site-packages: a check must not depend on the app, nor take long.
        return (python, "-I", "-S", "-c", code)


def listens_early(server: str, words: Sequence[str]) -> bool:
    """Whether a server accepts connections before its workers have loaded the app.

    words: its command. One that speaks TLS isn't meant, since plain HTTP gets no answer there.
    """
    options = {word.partition("=")[0] for word in words}
    if options & {"--certfile", "--keyfile", "--ssl-certfile", "--ssl-keyfile"}:
        return False
    return server in ("gunicorn", "hypercorn") or (server == "uvicorn" and "--workers" in options)


def port_in_command(words: Sequence[str], variables: Mapping[str, str]) -> int | None:
    """The port that a command names."""
    if len(words) >= 3 and words[1] == "-c" and words[0].rpartition("/")[2] in ("sh", "bash"):
        words = words[2].split()
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option not in _PORT_OPTIONS:
            continue
        if not equals:
            value = words[index + 1] if index + 1 < len(words) else ""
        value = value.rsplit(":", 1)[-1].strip("\"'")
        name = re.fullmatch(r"\$\{?(\w+)(?::-(\d+))?\}?", value)
        if name:
            value = variables.get(name[1], name[2] or "")
        if value.isdecimal() and 1 <= int(value) <= 65535:
            return int(value)
    return None


def port_of_call(modules: Sequence[Module]) -> Decision[int] | None:
    """The port of the call that starts the server, or of a variable named PORT."""
    for module in modules:
        for call in module.calls:
            if call.port is not None and 1 <= call.port <= 65535:
                why = "the call that starts the server says so"
                return Decision(value=call.port, why=why, where=f"{module.path}:{call.line}")
    for module in modules:
        for fact in module.variables:
            is_port = fact.text == "PORT" or fact.text.endswith("_PORT")
            mine = fact.text in ("PORT", "APP_PORT", "SERVER_PORT", "HTTP_PORT", "WEB_PORT")
            if is_port and mine and fact.default and fact.default.isdecimal():
                why = f"the default of {fact.text}"
                where = f"{module.path}:{fact.line}"
                return Decision(value=int(fact.default), why=why, where=where)
    return None


def health_route(modules: Sequence[Module]) -> Decision[str] | None:
    """A route that is there to be asked for health."""
    found: dict[str, str] = {}
    for module in modules:
        for fact in module.routes:
            found.setdefault(fact.text.rstrip("/") or "/", f"{module.path}:{fact.line}")
    for route in HEALTH_ROUTES:
        if route in found:
            return Decision(value=route, why=f"the code has the route {route}", where=found[route])
    return None


def writable_folders(
    modules: Sequence[Module], variables: Mapping[str, str], *, workdir: str
) -> tuple[Decision[str], ...]:
    """Folders of the image that the app writes to, absolute; those of the system left out."""
    found: dict[str, Decision[str]] = {}

    def add(folder: str, why: str, where: str) -> None:
        if "\0" in folder or folder.startswith("~") or "://" in folder:
            return
        path = posixpath.normpath(posixpath.join(workdir, folder))
        if re.search(r"\.(?:log|db|sqlite3?|txt|jsonl?|csv)$", path):
            path = posixpath.dirname(path)
        if not is_reserved(path) and not path.startswith("/home/"):
            found.setdefault(path, Decision(value=path, why=why, where=where))

    for module in modules:
        for fact in module.writes:
            add(fact.text, "the code writes there", f"{module.path}:{fact.line}")
        for fact in module.variables:
            value = variables.get(fact.text, fact.default or "")
            if value and _WRITE_NAMES.fullmatch(fact.text):
                add(value, f"the value of {fact.text}", f"{module.path}:{fact.line}")
    for name, value in variables.items():
        if value.startswith("/") and _WRITE_NAMES.fullmatch(name):
            add(value, f"the value of {name}", "")
    # What is inside another writable folder needs no entry of its own, but must exist: kept.
    return tuple(found[path] for path in sorted(found))
