"""The builders that are compared; each is a plug-in of a few verbs.

Rules: every contender starts from a base image, or base layer, that is on the disk already, and
takes wheels from this machine: the containers over loopback, Dockyard from the folder. `publish`
makes the registry-ready form: compressed layers named by their digests. For the Dockerfiles that
is a push to a registry on loopback, since Docker 20.10 compresses nothing before; for Dockyard it
is an OCI layout on the same disk.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rig import Docker, Registry, Run, measure

PLAIN = """\
FROM bench-python:3.11
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --no-index --find-links {wheels} -r requirements.txt
COPY . .
{start}
"""

# uv's own guide: cache mount, requirements before code, compiled bytecode, an unprivileged user;
# in one stage, which is quicker to build than two and no larger, as nothing is left behind.
BEST = """\
FROM bench-python:3.11
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv \\
    --mount=type=bind,from=bench-uv:1,source=/uv,target=/bin/uv \\
    --mount=type=bind,source=requirements.txt,target=requirements.txt \\
    uv pip install --python /opt/venv --no-index --find-links {wheels} -r requirements.txt
COPY . /app
USER 10001
{start}
"""


@dataclass(kw_only=True)
class Project:
    """A project folder as all contenders take it.

    command, port and path (of a request that is answered with 200) are for the start.
    """

    folder: Path
    name: str
    command: tuple[str, ...]
    port: int
    path: str

    def start_lines(self) -> str:
        return f"CMD {json.dumps(self.command)}"


class Contender(Protocol):
    """One way to build. Runs are measured; `tag` names the image."""

    name: str

    def reset(self) -> None:
        """Forget all builds; keep the base and the wheels."""

    def build(self, project: Project, tag: str) -> Run:
        """Build, until the image can be run by Docker."""

    def publish(self, project: Project, tag: str) -> list[Run]:
        """Build to the registry-ready form: the runs, one after another, that this takes."""

    def size(self, project: Project, tag: str) -> int:
        """Bytes of the compressed layers of what was published."""

    def image(self, project: Project, tag: str) -> str:
        """What Docker calls the built image."""


@dataclass(kw_only=True)
class Dockerfile:
    """A Dockerfile, built by a Docker daemon."""

    name: str
    text: str
    buildkit: bool
    docker: Docker
    registry: Registry
    wheels: str

    def reset(self) -> None:
        self.docker.run("container", "prune", "-f")
        for image in self.docker.run("images", "-q", "--filter", "label=bench=1").split():
            self.docker.run("rmi", "-f", image, check=False)
        self.docker.run("image", "prune", "-f")
        self.docker.run("builder", "prune", "-af")
        self.registry.clear()

    def build(self, project: Project, tag: str) -> Run:
        file = project.folder / f"{self.name}.Dockerfile"
        file.write_text(self.text.format(wheels=self.wheels, start=project.start_lines()))
        (project.folder / ".dockerignore").write_text("*.Dockerfile\n.dockerignore\nverify\n")
        try:
            return self.docker.measure(
                *(["buildx", "build", "--load"] if self.buildkit else ["build", "--force-rm"]),
                "--network=host",
                "--label=bench=1",
                f"--tag={self._reference(project, tag)}",
                f"--file={file}",
                str(project.folder),
                DOCKER_BUILDKIT="1" if self.buildkit else "0",
            )
        finally:
            file.unlink()

    def publish(self, project: Project, tag: str) -> list[Run]:
        built = self.build(project, tag)
        return [built, self.docker.measure("push", self._reference(project, tag))]

    def size(self, project: Project, tag: str) -> int:
        return self.registry.size(f"{self.name}-{project.name}", tag)

    def image(self, project: Project, tag: str) -> str:
        return self._reference(project, tag)

    def _reference(self, project: Project, tag: str) -> str:
        return f"127.0.0.1:{self.registry.port}/{self.name}-{project.name}:{tag}"


@dataclass(kw_only=True)
class Dockyard:
    """Dockyard, in a process of its own."""

    name: str
    folder: Path
    docker: Docker
    wheels: Path

    @property
    def _env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        kept.update(
            DOCKYARD_CACHE=str(self.folder / "cache"),
            DOCKER_HOST=self.docker.host,
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=str(self.wheels),
            PIP_CONFIG_FILE=os.devnull,
        )
        return kept

    def prepare(self) -> None:
        """Build a project without dependencies, so that the base is there as everyone's is."""
        seed = self.folder / "seed"
        seed.mkdir(parents=True, exist_ok=True)
        (seed / "app.py").write_text("print('nothing')\n")
        (seed / "requirements.txt").write_text("")
        self._run(seed, "seed", "docker")
        shutil.copytree(self.folder / "cache", self.folder / "cache-base", symlinks=True)

    def reset(self) -> None:
        for name in ("cache", "layout"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        shutil.copytree(self.folder / "cache-base", self.folder / "cache", symlinks=True)
        for image in self.docker.run("images", "-q", "--filter", "reference=yard-*").split():
            self.docker.run("rmi", "-f", image, check=False)

    def build(self, project: Project, tag: str, *options: str) -> Run:
        return self._run(project.folder, f"yard-{project.name}:{tag}", "docker", *options)

    def publish(self, project: Project, tag: str) -> list[Run]:
        layout = self.folder / "layout" / f"{project.name}-{tag}"
        return [self._run(project.folder, f"yard-{project.name}:{tag}", f"oci:{layout}")]

    def size(self, project: Project, tag: str) -> int:
        layout = self.folder / "layout" / f"{project.name}-{tag}"
        index = json.loads((layout / "index.json").read_text())
        digest = index["manifests"][0]["digest"].replace(":", "/")
        manifest = json.loads((layout / "blobs" / digest).read_text())
        return sum(layer["size"] for layer in manifest["layers"])

    def image(self, project: Project, tag: str) -> str:
        return f"yard-{project.name}:{tag}"

    def _run(self, folder: Path, tag: str, output: str, *options: str) -> Run:
        program = Path(sys.executable).with_name("dockyard")
        watch = [self.docker.pid] if output == "docker" else []
        return measure(
            [program, "build", "--quiet", "-t", tag, "-o", output, *options, folder],
            env=self._env,
            watch=watch,
        )
