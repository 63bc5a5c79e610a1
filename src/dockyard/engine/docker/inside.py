"""What goes on in a container of Docker or Podman: commands, usage, processes, files."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from dockyard.engine.docker.answers import read_path, read_processes, read_usage
from dockyard.engine.docker.link import Linked, Source, message_of, translated
from dockyard.engine.docker.streams import DockerSession
from dockyard.engine.refusals import explain
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dockyard.engine.state import Execution, PathInfo, ProcessLine, Usage

_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}
# Columns that the ps of Linux and Podman's own both know.
_PS_OF_DOCKER = "-eo pid,user,time,args"
_PS_OF_PODMAN = "hpid,user,time,args"


class DockerInside(Linked):
    """What goes on in an engine's containers."""

    def execute(self, container: str, execution: Execution) -> DockerSession:
        """Start another command in a running container."""
        body: dict[str, Any] = {
            "Cmd": list(execution.command),
            "Env": [f"{name}={value}" for name, value in execution.environment.items()],
            "AttachStdin": execution.interactive,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": execution.terminal,
        }
        if execution.user is not None:
            body["User"] = execution.user
        if execution.workdir is not None:
            body["WorkingDir"] = execution.workdir
        with translated(container):
            made = self._ask("POST", f"/containers/{container}/exec", container, json=body).json()
            number = str(made["Id"])
            started = {"Detach": False, "Tty": execution.terminal}
            response = self._upgrade(f"/exec/{number}/start", container, body=started)
        return DockerSession(
            response,
            where=container,
            terminal=execution.terminal,
            wait=lambda: self._exec_code(container, number),
            resize=lambda columns, rows: self._resize(f"/exec/{number}/resize", columns, rows),
        )

    def converse(self, container: str) -> DockerSession:
        """Talk to its own program, made with `interactive`; before its start to miss nothing."""
        with translated(container):
            state = self._ask("GET", f"/containers/{container}/json", container).json()
            query = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
            path = f"/containers/{container}/attach"
            response = self._upgrade(path, container, query=query)

        def wait() -> int:
            with translated(container):
                return int(self._api.wait(container)["StatusCode"])

        return DockerSession(
            response,
            where=container,
            terminal=bool(state["Config"].get("Tty")),
            wait=wait,
            resize=lambda columns, rows: self._resize(
                f"/containers/{container}/resize", columns, rows
            ),
        )

    def usage(self, container: str) -> Usage:
        """What a running container has used until now."""
        query = {"stream": "false", "one-shot": "true"}
        with translated(container):
            value = self._ask("GET", f"/containers/{container}/stats", container, params=query)
            answer = value.json()
        if not (answer.get("cpu_stats") or {}).get("cpu_usage"):
            raise explain(f"container {container} is not running", where=container)
        return read_usage(answer)

    def processes(self, container: str) -> tuple[ProcessLine, ...]:
        """The processes of a running container."""
        columns = _PS_OF_PODMAN if self._is_podman else _PS_OF_DOCKER
        with translated(container):
            answer = self._ask(
                "GET", f"/containers/{container}/top", container, params={"ps_args": columns}
            )
            return read_processes(answer.json())

    def path(self, container: str, path: str) -> PathInfo | None:
        """What is at an absolute path in the container, or None; it needn't run."""
        with translated(container):
            response = self._request(
                "HEAD", f"/containers/{container}/archive", params={"path": path}, timeout=60
            )
        header = response.headers.get("X-Docker-Container-Path-Stat")
        if response.status_code == 404 and not header:
            if self._ask("GET", f"/containers/{container}/json", container).ok:
                return None
        elif not response.ok and not header:
            raise EngineError(f"the engine refuses to look at {path}", where=container)
        return read_path(str(header))

    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """A file or folder as a tar, streamed, whose members start with the path's last part."""
        with translated(container):
            response = self._request(
                "GET", f"/containers/{container}/archive", params={"path": path}, stream=True
            )
            try:
                if not response.ok:
                    raise explain(message_of(response), where=f"{container}:{path}")
                yield from response.iter_content(1 << 20)
            finally:
                response.close()

    def copy_in(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar, streamed, in a folder that exists in the container."""
        source = Source(chunks)
        with translated(container, source):
            response = self._request(
                "PUT", f"/containers/{container}/archive", params={"path": folder}, data=source
            )
            if not response.ok:
                raise explain(message_of(response), where=f"{container}:{folder}")

    def _upgrade(
        self,
        path: str,
        container: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        response = self._request(
            "POST",
            path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers=_UPGRADE,
            stream=True,
        )
        # 200 is Docker's older way of saying 101, Switching Protocols.
        if response.status_code not in (101, 200):
            raise explain(message_of(response), where=container)
        return response

    def _exec_code(self, container: str, number: str) -> int:
        with translated(container):
            while True:
                state = self._ask("GET", f"/exec/{number}/json", container).json()
                if not state.get("Running"):
                    return int(state.get("ExitCode") or 0)
                # Its output has ended, so this is about to be said.
                time.sleep(0.02)

    def _resize(self, path: str, columns: int, rows: int) -> None:
        with translated(path):
            # A program that has just ended has no terminal: nothing to say then.
            self._request("POST", path, params={"h": rows, "w": columns}, timeout=60)
