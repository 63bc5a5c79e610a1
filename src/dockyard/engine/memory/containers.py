"""The life of containers in the engine in memory: a thread each, and real sockets."""

from __future__ import annotations

import secrets
import signal as signals
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dockyard.engine import refusals
from dockyard.engine.memory.process import Process, command_of, run_program
from dockyard.engine.memory.resources import has_label
from dockyard.engine.memory.store import Container, Files, Store
from dockyard.engine.secrets import read_secret
from dockyard.engine.spec import GRACE, MANAGED, Port, Volume
from dockyard.engine.state import ContainerState, LogChunk, NamedVolume, health_patience
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.spec import ContainerSpec

_RESTART_PAUSE = 0.1  # Seconds, as Docker's first.


class MemoryContainers(Store):
    """The containers of an engine."""

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""
        with self._changed:
            image = self.need_image(spec.image)
            refusals.check_platform(spec, image.architecture)
            number = secrets.token_hex(32)
            name = spec.name or f"memory-{number[:8]}"
            for other in self._containers.values():
                if other.name == name:
                    message = refusals.NAME_TAKEN.format(name, other.id)
                    raise refusals.explain(message, where=name)
            if image.architecture != self.info.architecture:
                reporter.warn(
                    f"The image is for linux/{image.architecture}, "
                    f"the engine for linux/{self.info.architecture}"
                )
            made = Container(
                id=number,
                name=name,
                spec=spec,
                image=image,
                files=Files(read_only=spec.read_only),
                times={"created": _now()},
            )
            self._mount(made)
            for secret in spec.secrets:
                made.files.put(secret.target, read_secret(secret))
            self.join(spec.network or "bridge", made, spec.aliases)
            self._containers[number] = made
            return number

    def start(self, container: str) -> None:
        """Start a created or ended container."""
        with self._changed:
            found = self.need_container(container)
            if found.status == "running":
                return
            if found.spec.gpus is not None:
                raise refusals.explain(refusals.GPUS_MISSING, where=container)
            found.stopping = False
            self._begin(found)

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""
        with self._changed:
            found = self.need_container(container)
            found.stopping = True
            if found.status != "running":
                return
            found.pending.append(signals.SIGTERM)
            self._changed.notify_all()
            limit = GRACE if grace is None else grace
            if not self._changed.wait_for(lambda: found.status != "running", limit):
                self._end(found, 128 + signals.SIGKILL)

    def restart(self, container: str, *, grace: float | None = None) -> None:
        """Stop it as `stop` does if it runs, then start it."""
        with self._changed:
            found = self.need_container(container)
            # As Docker: one that is removed when it ends outlives this.
            spec, found.spec = found.spec, replace(found.spec, remove=False)
            self.stop(container, grace=grace)
            found.spec = spec
            self.start(container)

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""
        with self._changed:
            found = self.need_running(container)
            if signal == "SIGKILL":
                found.stopping = True
                self._end(found, 128 + signals.SIGKILL)
            else:
                found.pending.append(signals.Signals[signal])
                self._changed.notify_all()

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""
        with self._changed:
            found = self.need_container(container)
            self._changed.wait_for(lambda: found.status != "running")
            return found.exit_code or 0

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns."""
        with self._changed:
            found = self.need_container(container)
            return self.follow(found, len(found.output))

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[LogChunk]:
        """What it wrote, in order, streamed."""
        with self._changed:
            found = self.need_container(container)
            position = len(found.output)
            written = [c for at, c in found.output if since is None or at >= since]
        if tail is not None:
            lines = [
                LogChunk(chunk.stream, line)
                for chunk in written
                for line in chunk.data.splitlines(keepends=True)
            ]
            yield from lines[len(lines) - min(tail, len(lines)) :]
        else:
            yield from written
        if follow and found.status == "running":
            yield from self.follow(found, position)

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""
        with self._changed:
            found = self.find_container(container)
            if found is None:
                return None
            running = found.status == "running"
            listed = found.image.config.get("Env") or ()
            environment = dict(item.partition("=")[::2] for item in listed)
            return ContainerState(
                id=found.id,
                name=found.name,
                image=found.spec.image,
                image_id=found.image.id,
                status=found.status,
                command=command_of(found.spec, found.image),
                exit_code=found.exit_code,
                health=found.health,
                health_patience=health_patience(self._check_of(found)),
                oom_killed=found.oom_killed,
                ports=found.ports if running else (),
                labels={**found.image.labels, MANAGED: "true", **found.spec.labels},
                environment={**environment, **found.spec.environment},
                networks={
                    name: members[found.id][0] if running else ""
                    for name, members in self._members.items()
                    if found.id in members
                },
                mounts=found.mounts,
                user=found.spec.user or str(found.image.config.get("User") or ""),
                terminal=found.spec.terminal,
                created=found.times["created"],
                started=found.times.get("started", ""),
                finished=found.times.get("finished", ""),
                restarts=found.restarts,
            )

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label, newest first, ended ones too."""
        with self._changed:
            states = [self.container(number) for number in reversed(self._containers)]
        return tuple(s for s in states if s is not None and has_label(s.labels, label))

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""
        with self._changed:
            found = self.need_container(container)
            check = self._check_of(found)
            test = [word for word in check.get("Test") or () if word not in ("CMD", "CMD-SHELL")]
            if not test or test == ["NONE"]:
                return None
            self.need_running(container)
            process = Process(self, found, self._changed, emit=lambda chunk: None)
        program = self._programs.get(test[0].split()[0])
        well = program is not None and program(process) == 0
        with self._changed:
            if well:
                found.health = "healthy"
            elif time.monotonic() - found.started > health_patience(check):
                found.health = "unhealthy"
        return well

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; absent ones are no error."""
        with self._changed:
            found = self.find_container(container)
            if found is None:
                return
            if found.status == "running":
                if not force:
                    message = refusals.STILL_RUNNING.format(container)
                    raise refusals.explain(message, where=container)
                found.stopping = True
                self._end(found, 128 + signals.SIGKILL)
            self._forget(found)

    def _begin(self, found: Container) -> None:
        _open_ports(found)
        checked = self._check_of(found).get("Test")
        found.health = "starting" if checked and checked != ["NONE"] else "none"
        found.status, found.exit_code, found.started = "running", None, time.monotonic()
        found.times["started"] = _now()
        found.oom_killed = False
        found.pending.clear()
        # A daemon: a program that ignores every signal must not keep Python from ending.
        threading.Thread(target=self._run, args=(found,), daemon=True, name=found.name).start()

    def _run(self, container: Container) -> None:
        process = Process(self, container, self._changed)
        code = run_program(
            self._programs,
            process,
            foreign=container.image.architecture != self.info.architecture,
        )
        with self._changed:
            policy = container.spec.restart
            ended = container.status == "running"
            self._end(container, code)
            again = policy.policy in ("always", "unless-stopped") or (
                policy.policy == "on-failure"
                and code != 0
                and (policy.retries is None or container.restarts < policy.retries)
            )
            if not (ended and again) or container.stopping:
                return
            self._changed.wait_for(lambda: container.stopping, _RESTART_PAUSE)
            if container.id in self._containers and not container.stopping:
                container.restarts += 1
                self._begin(container)

    def _end(self, container: Container, code: int) -> None:
        if container.status != "running":
            return
        container.status, container.exit_code = "exited", code
        container.times["finished"] = _now()
        for listener in container.sockets.values():
            listener.close()
        container.sockets.clear()
        if container.spec.remove:
            self._forget(container)
        self._changed.notify_all()

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)
        for members in self._members.values():
            members.pop(container.id, None)
        for mount in container.mounts:
            volume = self._volumes.get(mount.source)
            if volume is not None and "anonymous" in volume.labels:
                del self._volumes[mount.source], self._contents[mount.source]

    def _mount(self, container: Container) -> None:
        """Show volumes and temporary folders; a new volume is made, as every engine does."""
        mounts: list[Volume] = []
        for volume in container.spec.volumes:
            name = volume.source or secrets.token_hex(32)
            if volume.kind == "volume" and name not in self._volumes:
                labels = {} if volume.source else {"anonymous": ""}
                self._volumes[name] = NamedVolume(name=name, labels=labels)
                self._contents[name] = {}
            content = self._contents.get(name, {})
            container.files.mount(volume.target, content, read_only=volume.read_only)
            mounts.append(replace(volume, source=name))
        for target in container.spec.tmpfs:
            container.files.mount(target, {})
        container.mounts = tuple(mounts)

    @staticmethod
    def _check_of(container: Container) -> dict[str, Any]:
        own = dict(container.image.config.get("Healthcheck") or {})
        if container.spec.health is not None:
            asked = container.spec.health.to_json()
            own.update({key: value for key, value in asked.items() if value})
        return own


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _open_ports(container: Container) -> None:
    opened: list[Port] = []
    for port in container.spec.ports:
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((port.host_ip or "0.0.0.0", port.host or 0))  # noqa: S104 - as Docker
        except OSError as error:
            listener.close()
            for other in container.sockets.values():
                other.close()
            container.sockets.clear()
            taken = refusals.PORT_TAKEN.format(f"{port.host_ip or '0.0.0.0'}:{port.host}")  # noqa: S104
            raise refusals.explain(taken, where=container.name) from error
        container.sockets[port.container] = listener
        opened.append(replace(port, host=listener.getsockname()[1]))
    container.ports = tuple(opened)
