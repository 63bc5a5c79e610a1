"""The life of containers in Docker and Podman."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import docker.errors

from dockyard.engine.docker.answers import read_container
from dockyard.engine.docker.body import container_config
from dockyard.engine.docker.link import ANSWER, Linked, architecture_of, message_of, translated
from dockyard.engine.docker.streams import bare, demultiplexed, frames, pieces
from dockyard.engine.gpus.translate import choose_handover, local_cdi_kinds
from dockyard.engine.refusals import check_platform, explain
from dockyard.engine.secrets import pack_secrets
from dockyard.engine.spec import GRACE, MANAGED, SECRETS
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.engine.gpus.translate import Handover
    from dockyard.engine.spec import ContainerSpec
    from dockyard.engine.state import ContainerState, LogChunk


class DockerContainers(Linked):
    """The containers of an engine."""

    def create(self, spec: ContainerSpec, *, reporter: Reporter = SILENT) -> str:
        """Make a container, not started; return its id."""
        if spec.platform is not None:
            with translated(spec.image):
                image: Any = self._ask("GET", f"/images/{spec.image}/json", spec.image).json()
            check_platform(spec, architecture_of(str(image.get("Architecture") or "")))
        with translated(spec.name or spec.image):
            try:
                made = self._create(spec)
            except docker.errors.APIError as error:
                if not spec.init or "container-init binary" not in str(error.explanation):
                    raise
                # Podman without catatonit. An init is a default, not a wish.
                reporter.warn("The engine has no init program: signals may be slow to stop it.")
                made = self._create(replace(spec, init=False))
        number = str(made["Id"])
        for warning in made.get("Warnings") or ():
            reporter.warn(str(warning))
        if spec.secrets:
            self._fill_secrets(number, spec)
        return number

    def start(self, container: str) -> None:
        """Start a created or ended container."""
        with translated(container):
            self._api.start(container)

    def stop(self, container: str, *, grace: float | None = None) -> None:
        """Signal it to stop, kill it after `grace` seconds; ended ones are no error."""
        seconds = GRACE if grace is None else grace
        with translated(container):
            self._api.stop(container, timeout=max(0, round(seconds)))

    def restart(self, container: str, *, grace: float | None = None) -> None:
        """Stop it as `stop` does if it runs, then start it."""
        seconds = max(0, round(GRACE if grace is None else grace))
        with translated(container):
            # The engine answers when the container has had its grace time.
            self._ask(
                "POST",
                f"/containers/{container}/restart",
                container,
                params={"t": seconds},
                timeout=seconds + ANSWER,
            )

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a running container."""
        with translated(container):
            self._api.kill(container, signal)

    def wait(self, container: str) -> int:
        """Wait for its end; return its exit code."""
        with translated(container):
            return int(self._api.wait(container)["StatusCode"])

    def attach(self, container: str) -> Iterator[LogChunk]:
        """What it writes from now on, until it ends; attached when this returns."""
        with translated(container):
            frames = self._api.attach(container, stdout=True, stderr=True, stream=True, demux=True)
        return demultiplexed(container, frames)

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[LogChunk]:
        """What it wrote, in order, streamed."""
        query: dict[str, Any] = {"stdout": 1, "stderr": 1, "follow": int(follow)}
        if tail is not None:
            query["tail"] = tail
        if since is not None:
            query["since"] = f"{since:.9f}"
        with translated(container):
            state = self._ask("GET", f"/containers/{container}/json", container).json()
            response = self._request(
                "GET", f"/containers/{container}/logs", params=query, stream=True
            )
            if not response.ok:
                raise explain(message_of(response), where=container)
            try:
                split = bare if state["Config"].get("Tty") else frames
                yield from split(pieces(response))
            finally:
                response.close()

    def container(self, container: str) -> ContainerState | None:
        """Its state, or None when there is no such container."""
        with translated(container):
            try:
                return read_container(self._api.inspect_container(container))
            except docker.errors.APIError as error:
                # Podman answers 500 for one that goes away while it is looked at.
                gone = "no such container" in str(error.explanation).lower()
                if gone or isinstance(error, docker.errors.NotFound):
                    return None
                raise

    def containers(self, *, label: str | None = MANAGED) -> tuple[ContainerState, ...]:
        """Those with the label ("name" or "name=value"; None: all), ended ones too."""
        filters = {} if label is None else {"label": label}
        with translated("listing containers"):
            listed = self._api.containers(all=True, filters=filters)
        states = (self.container(entry["Id"]) for entry in listed)
        return tuple(state for state in states if state is not None)

    def probe(self, container: str) -> bool | None:
        """Run its health check once, now; None when it has none."""
        with translated(container):
            check = self._api.inspect_container(container)["Config"].get("Healthcheck") or {}
            match check.get("Test") or ():
                case ["CMD", *command]:
                    pass
                case ["CMD-SHELL", script]:
                    command = ["/bin/sh", "-c", script]
                case _:
                    return None
            number = self._api.exec_create(container, command)["Id"]
            # A thread, because docker-py would wait without limit for a check that hangs; attached,
            # because Podman 4.3 never says that a detached one is over.
            limit = (check.get("Timeout") or 30e9) / 1e9
            thread = threading.Thread(target=self._execute, args=(number,), daemon=True)
            thread.start()
            thread.join(limit)
            state = self._api.exec_inspect(number)
            return not state["Running"] and state["ExitCode"] == 0

    def _execute(self, number: str) -> None:
        with suppress(EngineError), translated(number):
            self._api.exec_start(number)

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; absent ones are no error."""
        if force and self.info.kind == "podman":
            # Podman would first wait out the grace time.
            with suppress(EngineError):
                self.kill(container)
        with translated(container):
            try:
                self._api.remove_container(container, v=True, force=force)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                # 409: the engine is removing it already (--rm).
                if "already in progress" not in str(error.explanation):
                    raise

    def _create(self, spec: ContainerSpec) -> dict[str, Any]:
        body = container_config(
            spec,
            log_driver=self.info.log_driver,
            handover="requests" if spec.gpus is None else self._handover(),
        )
        made: dict[str, Any] = self._api.create_container_from_config(  # type: ignore[no-untyped-call]
            body, spec.name
        )
        return made

    def _handover(self) -> Handover:
        info = self.info
        here = local_cdi_kinds() if info.address in ("127.0.0.1", "::1") else frozenset()
        return choose_handover(
            self._api.info(),
            podman_version=info.version if self._is_podman else None,
            local_kinds=here,
        )

    def _fill_secrets(self, container: str, spec: ContainerSpec) -> None:
        """Put the secrets into the volume that was mounted for them."""
        try:
            archive = pack_secrets(spec.secrets)
            with translated(spec.name or container):
                self._ask(
                    "PUT",
                    f"/containers/{container}/archive",
                    spec.name or container,
                    params={"path": SECRETS},
                    data=archive,
                )
        except BaseException:
            self.remove(container, force=True)
            raise
