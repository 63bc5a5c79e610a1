"""Debian's docker-registry, started for a test on a free loopback port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "docker-registry"


@dataclass(frozen=True)
class Server:
    """A running registry: "127.0.0.1:5000", and the folder of its files."""

    host: str
    folder: Path


@contextmanager
def registry_server(folder: Path, **settings: str) -> Iterator[Server]:
    """Run a registry whose files are below `folder`; settings as in REGISTRY_HTTP_…=… ."""
    port = _free_port()
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: {folder / 'data'}}}\n"
        "  delete: {enabled: true}\n"
        "http:\n"
        f"  addr: 127.0.0.1:{port}\n"
        "  secret: of-the-tests\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(config)],
            env=environment | settings | {"OTEL_TRACES_EXPORTER": "none"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(port, process, log)
        yield Server(host=f"127.0.0.1:{port}", folder=folder)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the registry doesn't answer: {log.read_text()}")


def with_logins(folder: Path, user: str, password: str) -> dict[str, str]:
    """The settings of a registry that asks for this user; the file is made by htpasswd."""
    line = subprocess.run(
        ["htpasswd", "-Bbn", user, password], check=True, capture_output=True, text=True
    ).stdout
    (folder / "htpasswd").write_text(line)
    return {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "the tests",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(folder / "htpasswd"),
    }


def with_certificate(folder: Path) -> dict[str, str]:
    """The settings of a registry with TLS; ca.crt in the folder has signed its certificate."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
        "-subj", "/CN=the tests",
    )  # fmt: skip
    openssl("req", *key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "own.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", "own.crt", "-days", "2", "-extfile", "names",
    )  # fmt: skip
    return {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(folder / "own.crt"),
        "REGISTRY_HTTP_TLS_KEY": str(folder / "own.key"),
    }


def missing(*programs: str) -> list[str]:
    """Those of the programs that aren't installed."""
    return [name for name in programs if shutil.which(name) is None]
