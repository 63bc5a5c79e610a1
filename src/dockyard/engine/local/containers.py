"""The life of the local engine's containers.

Rules: a container is its folder; whatever command looks at it reads the same files. Its monitor is
a process of its own (`monitor`), which this only starts, signals through the container's first
process, and waits for by its lock.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal as signals
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dockyard import __version__
from dockyard.engine import refusals
from dockyard.engine.local.images import LocalImages
from dockyard.engine.local.logs import LogReader, last_lines
from dockyard.engine.local.monitor import check_command, enter_command, own_program
from dockyard.engine.local.plan import is_taken, plan_container
from dockyard.engine.local.record import KILLED, Bound, Life, Record, is_held, wait_unheld
from dockyard.engine.local.store import read_json, remove_tree, unwritable
from dockyard.engine.spec import GRACE, MANAGED
from dockyard.engine.state import (
    ContainerState,
    EngineInfo,
    UnsupportedError,
    health_patience,
)
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dockyard.engine.spec import ContainerSpec
    from dockyard.engine.state import LogChunk, Status

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FORBIDDEN = frozenset({errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL})


class LocalContainers(LocalImages):
    """Containers in a folder of this machine."""

    @property
    def info(self) -> EngineInfo:
        """Which engine it is."""
        machine = os.uname().machine
        return EngineInfo(
            kind="local",
            version=__version__,
            architecture=_ARCHITECTURES.get(machine, machine),
            cpus=len(os.sched_getaffinity(0)),
            log_driver="local",
        )

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""
        image = self.need_image(spec.image)
        number = secrets.token_hex(32)
        # Under one lock, so that a name is given once and no layer is removed meanwhile.
        with self.store.using_layers(), self.store.names():
            if spec.name and (taken := Record.find(self.store, spec.name)):
                message = refusals.NAME_TAKEN.format(spec.name, taken.id)
                raise refusals.explain(message, where=spec.name)
            volumes = self.place_volumes(spec, number)
            record = plan_container(spec, image, self.store, number=number, volumes=volumes)
            try:
                folder = record.folder(self.store)
                for name in ("upper", "work", "rootfs"):
                    (folder / name).mkdir(parents=True)
                # The root's own mode is that of the topmost folder.
                (folder / "upper").chmod(0o755)
                for name in ("log", "lock"):
                    (folder / name).touch()
                if record.interactive:
                    os.mkfifo(folder / "stdin")
                record.save(self.store)
            except OSError as error:
                remove_tree(record.folder(self.store))
                raise unwritable(error, self.store.root) from error
        self._say_what_differs(record, image.architecture, reporter)
        return number

    def start(self, container: str) -> None:
        """Start a created or ended container; a running one is no error."""
        record = self.need_container(container)
        folder = record.folder(self.store)
        if is_held(folder):
            return
        promised = self._promised_ports(record)
        for port in record.ports:
            if (port.protocol, port.host) in promised or is_taken(port):
                taken = refusals.PORT_TAKEN.format(f"{port.host_ip or '0.0.0.0'}:{port.host}")  # noqa: S104
                raise refusals.explain(taken, where=record.name)
        replace(Life.written(folder), stopping=False, error="").save(folder)
        (folder / "health.json").unlink(missing_ok=True)
        done = subprocess.run(
            [*own_program("monitor"), str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        answer = done.stdout.strip()
        if answer != "ok":
            raise _couldnt_start(record, answer or done.stderr.strip())

    def _promised_ports(self, record: Record) -> set[tuple[str, int | None]]:
        """The ports of other containers that run, whose apps may not listen on them yet."""
        return {
            (port.protocol, port.host)
            for other in Record.all(self.store)
            if other.id != record.id and other.ports and is_held(other.folder(self.store))
            for port in other.ports
        }

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""
        record = self.need_container(container)
        folder = record.folder(self.store)
        if not is_held(folder):
            return
        self._mark_stopping(folder)
        deadline = time.monotonic() + (GRACE if grace is None else grace)
        self._signal(folder, record.stop_signal)
        while is_held(folder):
            if time.monotonic() > deadline:
                self._signal(folder, "SIGKILL")
                wait_unheld(folder)
                return
            time.sleep(0.02)

    def restart(self, container: str, *, grace: float | None = None) -> None:
        """Stop it as `stop` does if it runs, then start it."""
        record = self.need_container(container)
        if record.remove:
            # As Docker: one that is removed when it ends outlives this. Its monitor has read the
            # record already, so it can't be told.
            raise UnsupportedError(
                "the local engine can't restart a container that is removed when it ends",
                where=record.name,
                hint="Run it without --rm.",
            )
        self.stop(container, grace=grace)
        self.start(container)

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""
        folder = self.need_running(container).folder(self.store)
        if signal == "SIGKILL":
            self._mark_stopping(folder)
        self._signal(folder, signal)
        if signal == "SIGKILL":
            wait_unheld(folder)

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""
        record = self.need_container(container)
        folder = record.folder(self.store)
        if Life.load(folder).status == "created":
            return 0
        code = wait_unheld(folder)
        return KILLED if code is None else code

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns."""
        record = self.need_container(container)
        folder = record.folder(self.store)
        before = Life.load(folder)
        reader = LogReader(folder / "log", from_end=True)

        def is_over() -> bool:
            if not folder.exists():
                return True
            now = Life.load(folder)
            return now.status == "exited" and now.finished != before.finished

        return (chunk for _, chunk in reader.follow(is_over))

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[LogChunk]:
        """What it wrote, in order, streamed."""
        folder = self.need_container(container).folder(self.store)
        reader = LogReader(folder / "log")
        frames = ((at, chunk) for at, chunk in reader.written() if since is None or at >= since)
        yield from (chunk for _, chunk in (frames if tail is None else last_lines(frames, tail)))
        if follow:
            yield from (chunk for _, chunk in reader.follow(lambda: not is_held(folder)))

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""
        record = Record.find(self.store, container)
        return None if record is None else self._state(record)

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label, newest first, ended ones too."""
        states = [self._state(record) for record in Record.all(self.store)]
        return tuple(state for state in states if has_label(state.labels, label))

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""
        record = self.need_container(container)
        command = check_command(record.health or {})
        if not command:
            return None
        self.need_running(container)
        limit = ((record.health or {}).get("Timeout") or 30e9) / 1e9
        try:
            done = subprocess.run(
                enter_command(record.folder(self.store), {"argv": list(command)}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; absent ones are no error."""
        record = Record.find(self.store, container)
        if record is None:
            return
        folder = record.folder(self.store)
        if is_held(folder):
            if not force:
                message = refusals.STILL_RUNNING.format(record.name)
                raise refusals.explain(message, where=record.name)
            self._mark_stopping(folder)
            self._signal(folder, "SIGKILL")
            wait_unheld(folder)
        grave = self.store.root / "tmp" / f"{os.getpid()}-{record.id[:12]}-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):  # With --rm its monitor was quicker.
            folder.rename(grave)
            remove_tree(grave)

    def need_container(self, container: str) -> Record:
        """Its record; raises EngineError when there is none."""
        record = Record.find(self.store, container)
        if record is None:
            raise refusals.explain(refusals.NO_CONTAINER.format(container), where=container)
        return record

    def need_running(self, container: str) -> Record:
        """Its record; raises EngineError when it doesn't run."""
        record = self.need_container(container)
        if Life.load(record.folder(self.store)).status != "running":
            raise refusals.explain(refusals.NOT_RUNNING.format(container), where=container)
        return record

    def place_volumes(self, spec: ContainerSpec, number: str) -> tuple[Bound, ...]:
        """Where the specification's volumes are; see LocalResources."""
        raise NotImplementedError

    def _state(self, record: Record) -> ContainerState:
        folder = record.folder(self.store)
        life = Life.load(folder)
        running = life.status == "running"
        health = read_json(folder / "health.json") if record.health else None
        status: Status = life.status  # type: ignore[assignment]
        return ContainerState(
            id=record.id,
            name=record.name,
            image=record.image,
            image_id=record.image_id,
            status=status,
            command=record.argv,
            exit_code=life.exit_code if status == "exited" else None,
            health=(health or {}).get("status", "starting") if record.health else "none",
            health_output=(health or {}).get("output", "").strip(),
            health_patience=health_patience(record.health or {}),
            oom_killed=life.oom_killed,
            error=life.error,
            ports=record.ports if running else (),
            labels=record.labels,
            environment=record.environment,
            networks={"host": ""},
            mounts=record.mounts,
            user=record.user,
            terminal=record.terminal,
            created=record.created,
            started=life.started,
            finished=life.finished,
            restarts=life.restarts,
        )

    def _signal(self, folder: Path, name: str) -> None:
        pid = Life.written(folder).pid
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signals.Signals[name if name.startswith("SIG") else f"SIG{name}"])

    def _mark_stopping(self, folder: Path) -> None:
        """Tell the monitor that what ends now is meant to end, whatever the restart policy."""
        with suppress(EngineError):
            replace(Life.written(folder), stopping=True).save(folder)

    def _say_what_differs(self, record: Record, architecture: str, reporter: Reporter) -> None:
        here = self.info.architecture
        if architecture != here:
            reporter.warn(f"The image is for linux/{architecture}, this machine is linux/{here}")
        if record.uid and not record.root_owner:
            reporter.note(
                f"Inside, you are its user {record.uid}, and all of the image's files are yours"
            )


def has_label(labels: object, label: str | None) -> bool:
    """Whether "name" or "name=value" is among the labels; None is among all."""
    assert isinstance(labels, dict)
    name, equals, value = (label or "").partition("=")
    return label is None or (name in labels and (not equals or labels[name] == value))


def _couldnt_start(record: Record, answer: str) -> EngineError:
    """What the monitor's one line means."""
    number, _, where = answer.partition(" ")
    if number.isdigit() and int(number) in _FORBIDDEN and "unshare" in where:
        return EngineError(
            "this machine doesn't let you make user namespaces, which the local engine needs",
            where=record.name,
            hint="Have them allowed (sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns=0), or "
            "use Docker or Podman.",
        )
    if where.startswith("/rootfs"):
        return EngineError(
            f"the container's root can't be mounted: {where.rpartition(': ')[2]}",
            where=record.name,
            hint="The local engine needs overlayfs for ordinary users: Linux 5.11 or newer, and a "
            "folder on a local disk (DOCKYARD_LOCAL names another).",
        )
    return EngineError(f"the container can't be started: {where or answer}", where=record.name)
