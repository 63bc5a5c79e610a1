"""Start PostgreSQL as the image `postgres` does: initialise what is new, then become the server.

POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB (each also as …_FILE), POSTGRES_INITDB_ARGS,
POSTGRES_HOST_AUTH_METHOD and PGDATA are honoured, and *.sql in /docker-entrypoint-initdb.d.
"""

import os
import pathlib
import subprocess
import sys

BIN = pathlib.Path("/usr/lib/postgresql/17/bin")
SOCKETS = pathlib.Path("/var/run/postgresql")
SCRIPTS = pathlib.Path("/docker-entrypoint-initdb.d")
USER = 10001


def setting(name: str, default: str = "") -> str:
    file = os.environ.get(f"{name}_FILE")
    if file:
        return pathlib.Path(file).read_text().strip()
    return os.environ.get(name) or default


def give_to_the_server(data: pathlib.Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    SOCKETS.mkdir(parents=True, exist_ok=True)
    for folder in (data, SOCKETS):
        os.chown(folder, USER, USER)
    data.chmod(0o700)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


def initialise(data: pathlib.Path) -> None:
    password, user = setting("POSTGRES_PASSWORD"), setting("POSTGRES_USER", "postgres")
    method = setting("POSTGRES_HOST_AUTH_METHOD", "scram-sha-256")
    if not password and method != "trust":
        sys.exit("Error: Database is uninitialized and superuser password is not specified.")
    given = pathlib.Path("/tmp/password")
    given.write_text(password or "-")
    arguments = setting("POSTGRES_INITDB_ARGS").split()
    command = [BIN / "initdb", "-D", data, "-U", user, f"--pwfile={given}", "--no-sync", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    given.unlink()
    with (data / "pg_hba.conf").open("a") as file:
        file.write(f"host all all all {method}\n")
    database = setting("POSTGRES_DB", user)
    ctl = [BIN / "pg_ctl", "-D", data, "-w", "-s"]
    subprocess.run([*ctl, "-o", "-c listen_addresses=''", "start"], check=True)
    psql = [BIN / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-U", user]
    if database != "postgres":
        create = f'CREATE DATABASE "{database}"'
        subprocess.run([*psql, "-d", "postgres", "-c", create], check=True)
    for script in sorted(SCRIPTS.glob("*.sql")):
        subprocess.run([*psql, "-d", database, "-f", script], check=True)
    subprocess.run([*ctl, "-m", "fast", "stop"], check=True)


def main() -> None:
    words = sys.argv[1:]
    if words[0] != "postgres":
        os.execvp(words[0], words)
    data = pathlib.Path(os.environ["PGDATA"])
    if os.getuid() == 0:
        give_to_the_server(data)
    if not (data / "PG_VERSION").exists():
        initialise(data)
    settings = ["-c", "listen_addresses=*", "-c", f"unix_socket_directories={SOCKETS}"]
    program = str(BIN / "postgres")
    os.execv(program, [program, "-D", str(data), *settings, *words[1:]])


main()
