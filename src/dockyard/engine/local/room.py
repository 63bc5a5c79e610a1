"""A container's namespaces and its root, made with no more than an ordinary user may do.

Steps: `fork_into` forks a process into new user, mount, pid, uts and ipc namespaces, whose user ids
its parent maps; `furnish` mounts the root there: the image's layers under overlayfs, /proc, /dev,
a read-only /sys, volumes, and lastly the root read-only where that was asked for.

Rules: as root every user id exists inside as it is outside; for anybody else there is one user,
the image's, and it is the caller. Paths inside are followed inside: the old root is at one hidden
folder while mounts are made, and gone when the app starts.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.engine.local import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockyard.engine.local.record import Bound, Record
    from dockyard.engine.local.store import LocalStore

_OLD = "/.dockyard-host"
_SPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# As runc's defaults have them: what of /proc changes the machine, and what tells its secrets.
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HIDDEN = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list")
_FLAGS = {
    "ro": kernel.MS_RDONLY,
    "nosuid": kernel.MS_NOSUID,
    "nodev": kernel.MS_NODEV,
    "noexec": kernel.MS_NOEXEC,
}
_PLAIN = frozenset({"rw", "suid", "dev", "exec", "relatime", "noatime", "sync", "async"})


def fork_into(
    uid: int,
    gid: int,
    body: Callable[[], None],
    *,
    before: Callable[[int], None] = lambda pid: None,
) -> int:
    """Run `body` in a child in new namespaces, as their first process; return its pid.

    Real ids are mapped as they are for root; else the caller is `uid` and `gid` inside. The child
    dies with this process. `before` is given its pid before it does anything. Raises OSError when
    namespaces aren't allowed.
    """
    kernel.adopt_orphans()
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    middle = os.fork()
    if middle == 0:
        _run_and_leave(lambda: _middle(to_child, from_child, body))
    os.close(to_child)
    os.close(from_child)
    try:
        _expect(to_parent, b"u")
        _map_ids(middle, uid, gid)
        os.write(from_parent, b"m")
        child = int(_expect(to_parent, b"p"))
        # The child asks to die with its parent, which must be this process by then.
        os.waitpid(middle, 0)
        before(child)
        os.write(from_parent, b"g")
        return child
    except OSError:
        with suppress(ChildProcessError, ProcessLookupError):
            os.kill(middle, signal.SIGKILL)
            os.waitpid(middle, 0)
        raise
    finally:
        os.close(from_parent)
        os.close(to_parent)


def _middle(to_child: int, from_child: int, body: Callable[[], None]) -> None:
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
        os.write(from_child, b"u\n")
        os.read(to_child, 1)
        kernel.unshare(_SPACES)
    except OSError as error:
        os.write(from_child, f"e{error.errno} {error.filename}\n".encode())
        return
    child = os.fork()
    if child:
        os.write(from_child, f"p{child}\n".encode())
        return
    os.close(from_child)
    if os.read(to_child, 1) == b"g":
        kernel.die_with_parent(signal.SIGKILL)
        body()


def _run_and_leave(body: Callable[[], None]) -> None:
    """Run in a forked child, which never returns to its parent's code."""
    try:
        body()
    finally:
        os._exit(255)


def _expect(handle: int, kind: bytes) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(handle, 1)
        if not data:
            raise OSError(0, "the process in new namespaces ended early")
        line += data
    if line[:1] == b"e":
        number, _, call = line[1:].decode().partition(" ")
        raise OSError(int(number), os.strerror(int(number)), call.strip())
    return line[1:].strip()


def _map_ids(pid: int, uid: int, gid: int) -> None:
    process = Path(f"/proc/{pid}")
    if os.geteuid() == 0:
        for kind in ("uid_map", "gid_map"):
            ranges = Path(f"/proc/self/{kind}").read_text().split()
            lines = [f"{a} {a} {count}" for a, count in zip(ranges[::3], ranges[2::3], strict=True)]
            (process / kind).write_text("\n".join(lines) + "\n")
        return
    # user_namespaces(7): one line with the caller's own id needs no privilege, once groups can't
    # be dropped.
    (process / "setgroups").write_text("deny")
    (process / "uid_map").write_text(f"{uid} {os.geteuid()} 1\n")
    (process / "gid_map").write_text(f"{gid} {os.getegid()} 1\n")


def furnish(record: Record, store: LocalStore, *, bare: bool = False) -> None:
    """Mount the container's root and make it this process's; bare: files only, for copying."""
    folder = record.folder(store)
    root = str(folder / "rootfs")
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    os.chdir(store.root / "l")
    lower = ":".join(store.short_name(layer) for layer in reversed(record.layers))
    options = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work,userxattr"
    kernel.mount("overlay", root, "overlay", kernel.MS_NODEV, options)
    os.chdir(root)
    Path(root + _OLD).mkdir(exist_ok=True)
    kernel.pivot_root(".", _OLD[1:])
    os.chdir("/")
    if not bare:
        _mount_system(record)
    for bound in record.binds:
        _bind(bound)
    if not bare:
        for target, text in record.tmpfs.items():
            _make_folder(target)
            _mount_tmpfs(target, text)
    kernel.unmount(_OLD)
    Path(_OLD).rmdir()
    if record.read_only and not bare:
        again = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_NODEV
        kernel.mount("", "/", "", again | kernel.MS_RDONLY)


def _mount_system(record: Record) -> None:
    guarded = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    _make_folder("/proc")
    kernel.mount("proc", "/proc", "proc", guarded)
    _make_folder("/sys")
    # sysfs belongs to the network's namespace, which is the host's: it can only be shown.
    kernel.mount(f"{_OLD}/sys", "/sys", "", kernel.MS_BIND | kernel.MS_REC)
    kernel.read_only_tree("/sys")
    _make_folder("/dev")
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, "mode=755,size=65536k")
    for name in _NODES:
        _bind_file(f"{_OLD}/dev/{name}", f"/dev/{name}")
    for name, target in _LINKS.items():
        Path("/dev", name).symlink_to(target)
    _make_folder("/dev/pts")
    kernel.mount(
        "devpts",
        "/dev/pts",
        "devpts",
        kernel.MS_NOSUID | kernel.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )
    _make_folder("/dev/shm")  # noqa: S108 - the container's own
    kernel.mount(
        "shm",
        "/dev/shm",  # noqa: S108
        "tmpfs",
        guarded,
        f"mode=1777,size={record.shm_size}",
    )
    for path in _READ_ONLY:
        if Path(path).exists():
            kernel.mount(path, path, "", kernel.MS_BIND | kernel.MS_REC)
            kernel.read_only_tree(path)
    for path in _HIDDEN:
        if Path(path).exists():
            kernel.mount("/dev/null", path, "", kernel.MS_BIND)
    kernel.set_hostname(record.hostname)


def _bind(bound: Bound) -> None:
    source = f"{_OLD}{bound.source}"
    if Path(source).is_dir():
        target = Path(bound.target)
        if bound.copy_up and target.is_dir() and not any(Path(source).iterdir()):
            shutil.copytree(target, source, symlinks=True, dirs_exist_ok=True)
        _make_folder(bound.target)
        kernel.mount(source, bound.target, "", kernel.MS_BIND | kernel.MS_REC)
    else:
        _bind_file(source, bound.target)
    if bound.read_only:
        kernel.read_only_tree(bound.target)


def _bind_file(source: str, target: str) -> None:
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch()
    kernel.mount(source, target, "", kernel.MS_BIND)


def _make_folder(target: str) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)


def _mount_tmpfs(target: str, text: str) -> None:
    """Mount as Docker's --tmpfs: without options nothing on it is executed."""
    words = [word for word in text.split(",") if word]
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | (0 if words else kernel.MS_NOEXEC)
    data = [] if any(word.startswith("mode=") for word in words) else ["mode=1777"]
    for word in words:
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word not in _PLAIN:
            data.append(word)
    kernel.mount("tmpfs", target, "tmpfs", flags, ",".join(data))
