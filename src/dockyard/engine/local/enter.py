"""Do something in a container: a program with the arguments FOLDER and REQUEST.

REQUEST is one JSON object: {"argv": …} executes a program in a running container; {"look": path},
{"pack": path} and {"unpack": folder} read and write files, by stdin and stdout, whether it runs or
not. Rules: a process of its own, because joining a user namespace is only for processes without
threads. Names and users are never looked up inside: a container must not run code of its choice
in here.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from dockyard.engine.local import kernel, room
from dockyard.engine.local.program import execute, exit_code
from dockyard.engine.local.record import Life, Record
from dockyard.engine.local.store import LocalStore

# Their look-ups would read the container's name service, and load its libraries.
tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]

_KINDS = (("user", kernel.CLONE_NEWUSER), ("mnt", kernel.CLONE_NEWNS), ("pid", kernel.CLONE_NEWPID))
_MORE = (("uts", kernel.CLONE_NEWUTS), ("ipc", kernel.CLONE_NEWIPC))
GONE = 3
"""The exit code when there is no such path, or the container has ended."""


def main() -> None:
    """Read the request, enter, do it."""
    folder, request = Path(sys.argv[1]), json.loads(sys.argv[2])
    record = Record.load(folder)
    if record is None:
        sys.exit(GONE)
    life = Life.load(folder)
    if "argv" in request:
        sys.exit(_execute(record, life, request))
    if life.status == "running":
        _join(life.pid)
        _files(request)
        return
    store = LocalStore(folder.parent.parent)

    def body() -> None:
        room.furnish(record, store, bare=True)
        os._exit(_exit_of(request))

    child = room.fork_into(record.uid, record.gid, body)
    sys.exit(exit_code(os.waitpid(child, 0)[1]))


def _join(pid: int) -> None:
    handles = []
    try:
        for name, kind in (*_KINDS, *_MORE):
            handles.append((os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind))
        for handle, kind in handles:
            kernel.setns(handle, kind)
    except FileNotFoundError:
        sys.exit(GONE)
    os.chdir("/")


def _execute(record: Record, life: Life, request: dict[str, Any]) -> int:
    if life.status != "running":
        return GONE
    _join(life.pid)
    child = os.fork()
    if child == 0:
        user = request.get("user")
        try:
            execute(
                record,
                request["argv"],
                {**record.environment, **request.get("environment", {})},
                (0, 1, 2),
                workdir=request.get("workdir") or record.workdir,
                user=None if user is None else (user[0], user[1], tuple(user[2])),
                terminal=bool(request.get("terminal")),
            )
        finally:
            os._exit(255)
    return exit_code(os.waitpid(child, 0)[1])


def _exit_of(request: dict[str, Any]) -> int:
    try:
        _files(request)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except (OSError, tarfile.TarError) as error:
        with suppress(OSError):
            os.write(2, f"{error}\n".encode())
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _files(request: dict[str, Any]) -> None:
    if "look" in request:
        sys.stdout.write(json.dumps(_look(request["look"])))
    elif "pack" in request:
        _pack(request["pack"])
    else:
        folder = Path(request["unpack"])
        if not folder.is_dir():
            sys.exit(GONE)
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            archive.extractall(folder, numeric_owner=True, filter="tar")
        while sys.stdin.buffer.read(1 << 16):
            pass


def _look(path: str) -> dict[str, Any]:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        sys.exit(GONE)
    kind = "other"
    for name, test in (("file", stat.S_ISREG), ("folder", stat.S_ISDIR), ("link", stat.S_ISLNK)):
        if test(found.st_mode):
            kind = name
    return {
        "name": Path(path).name or "/",
        "kind": kind,
        "size": found.st_size if kind == "file" else 0,
        "link": str(Path(path).readlink()) if kind == "link" else "",
    }


def _pack(path: str) -> None:
    if not os.path.lexists(path):
        sys.exit(GONE)
    name = Path(path).name or "."
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        archive.add(path, arcname=name)
    sys.stdout.buffer.flush()
