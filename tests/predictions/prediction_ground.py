"""A PostgreSQL in a container, and processes that log to it."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from dockyard_serve.predictions.settings import LogSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PASSWORD = "correct horse"


def docker(*arguments: str) -> str:
    """Run the engine's own command and return what it prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass
class Database:
    """A PostgreSQL in a container."""

    container: str
    port: int

    @property
    def environ(self) -> dict[str, str]:
        return {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.port),
            "DB_NAME": "predictions",
            "DB_USER": "user",
            "DB_PASSWORD": PASSWORD,
        }

    def settings(self, folder: Path, **environ: str) -> LogSettings:
        """Settings of a log that writes here, with its spool in a folder."""
        return read_settings({**self.environ, "LOG_DIR": str(folder), **environ})

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname="predictions",
            user="user",
            password=PASSWORD,
            autocommit=True,
            connect_timeout=5,
        )

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(text.encode()).fetchall()

    def change(self, text: str) -> None:
        with self.connect() as connection:
            connection.execute(text.encode())

    def wait(self, seconds: float = 60) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.query("select 1")
            except psycopg.Error:
                assert time.monotonic() < deadline, docker("logs", self.container)
                time.sleep(0.1)
            else:
                return


def start_database(image: str, *options: str) -> Database:
    name = f"dockyard-test-db-{secrets.token_hex(4)}"
    environment = [f"POSTGRES_PASSWORD={PASSWORD}", "POSTGRES_USER=user"]
    environment.append("POSTGRES_DB=predictions")
    flags = [word for item in environment for word in ("-e", item)]
    # A port of the host that stays the same when the container is started again.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    docker("run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:5432", *flags, *options, image)
    database = Database(container=name, port=port)
    try:
        database.wait()
    except BaseException:
        docker("rm", "-f", "-v", name)
        raise
    return database


@pytest.fixture(scope="module")
def _module_database(postgres_image: str) -> Iterator[Database]:
    found = start_database(postgres_image)
    yield found
    docker("rm", "-f", "-v", found.container)


@pytest.fixture
def database(_module_database: Database) -> Database:
    """The module's database, without a schema of the log."""
    _module_database.change("drop schema if exists dockyard cascade")
    return _module_database


@pytest.fixture
def own_database(postgres_image: str) -> Iterator[Database]:
    """A database of the test's own, to be harmed."""
    found = start_database(postgres_image)
    yield found
    docker("rm", "-f", "-v", found.container)
