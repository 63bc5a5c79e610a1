"""Whether the local engine can run containers here, found out by making the root of one.

Rules: tried once for each kernel and folder, in a process of its own; what worked is remembered in
the store's file `works`. The answer is a sentence, or "" where all is well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from dockyard.engine.local import kernel, room
from dockyard.engine.local.monitor import own_program
from dockyard.engine.local.program import exit_code

if TYPE_CHECKING:
    from dockyard.engine.local.store import LocalStore


def why_not(store: LocalStore) -> str:
    """Why no container can run with this store, or ""."""
    marker = store.root / "works"
    kernel_now = f"{os.uname().release} {os.geteuid()}"
    try:
        if marker.read_text() == kernel_now:
            return ""
    except OSError:
        pass  # Not tried yet.
    with store.temporary() as folder:
        for name in ("lower", "upper", "work", "root"):
            (folder / name).mkdir()
        done = subprocess.run(
            [*own_program("probe"), str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        marker.write_text(kernel_now)
        return ""
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def main() -> None:
    """Try it in the folder that the argument names."""
    folder = sys.argv[1]
    try:
        child = room.fork_into(0, 0, lambda: _try(folder))
    except OSError as error:
        sys.exit(f"user namespaces are forbidden here ({error.filename}: {error.strerror})")
    sys.exit(exit_code(os.waitpid(child, 0)[1]))


def _try(folder: str) -> None:
    root, guarded = f"{folder}/root", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work,userxattr"
    told = "overlayfs isn't for ordinary users here, or not on this disk"
    try:
        kernel.mount("overlay", root, "overlay", kernel.MS_NODEV, layers)
        told = "/proc can't be mounted in a namespace here"
        kernel.mount("proc", root, "proc", guarded)
        told = "mounts can't be made read-only here"
        kernel.read_only_tree(root)
    except OSError as error:
        os.write(2, f"{told} ({error.strerror})\n".encode())
        os._exit(1)
    os._exit(0)
