"""Builds and pushes the same project in four situations, and counts what moves.

    python bench/push.py --work FOLDER [--example torch-digits] [--only dockyard] ...

    first       nothing was built or pushed before; the base is on the disk
    code        one line of the code changed
    dependency  one small dependency changed (uvicorn, 90 kB)
    empty       a machine that has nothing of it, for a registry that has all; the contenders'
                base image stays, since here they have nowhere to pull it from

Wheels come from an index, and images go to a registry, both on loopback; bytes to and from the
registry are counted by a proxy, bytes of wheels by the index. Dockyard's project has a pylock.toml
in `empty`, as a repository would. FOLDER is made ready by bench/prepare.sh; results go to
bench/results/push-EXAMPLE.{json,md}; `--only` measures some and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from contenders import BEST, PLAIN, Dockerfile, Project
from counting import CountingProxy
from index import WheelIndex
from rig import Docker, Registry, Run, measure

from build import REQUIREMENTS, change_code, change_dependency, first_project

HERE = Path(__file__).resolve().parent
SITUATIONS = ("first", "code", "dependency", "empty")


class Pusher(Protocol):
    """One way to get a project into the registry."""

    name: str

    def reset(self) -> None:
        """Forget all that was built on this machine; keep the base."""

    def push(self, project: Project, tag: str) -> list[Run]:
        """Build and push."""


@dataclass(kw_only=True)
class DockerPusher:
    """A Dockerfile, built by a Docker daemon, and `docker push`.

    cached: with BuildKit's cache in the registry, inline in the image (the daemon's own BuildKit
    has no other; a build of one stage loses nothing by that).
    """

    name: str
    dockerfile: Dockerfile
    cached: bool

    def reset(self) -> None:
        docker = self.dockerfile.docker
        docker.run("container", "prune", "-f")
        for image in docker.run("images", "-q", "--filter", "label=bench=1").split():
            docker.run("rmi", "-f", image, check=False)
        docker.run("image", "prune", "-f")
        docker.run("builder", "prune", "-af")

    def push(self, project: Project, tag: str) -> list[Run]:
        each = self.dockerfile
        reference = each.image(project, tag)
        if not self.cached:
            return each.publish(project, tag)
        file = project.folder / f"{each.name}.Dockerfile"
        file.write_text(each.text.format(wheels=each.wheels, start=project.start_lines()))
        (project.folder / ".dockerignore").write_text("*.Dockerfile\n.dockerignore\nverify\n")
        cache = reference.rpartition(":")[0] + ":cache"
        try:
            built = each.docker.measure(
                *("buildx", "build", "--load", "--network=host", "--label=bench=1"),
                *(f"--tag={reference}", f"--tag={cache}", f"--file={file}"),
                *("--cache-to=type=inline", f"--cache-from=type=registry,ref={cache}"),
                str(project.folder),
                DOCKER_BUILDKIT="1",
            )
        finally:
            file.unlink()
        pushed = [each.docker.measure("push", name) for name in (reference, cache)]
        return [built, *pushed]


@dataclass(kw_only=True)
class DockyardPusher:
    """`dockyard build --push`."""

    name: str
    folder: Path
    index: WheelIndex
    port: int
    locked: bool = field(default=False)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        kept.update(
            DOCKYARD_CACHE=str(self.folder / "cache"),
            PIP_INDEX_URL=f"{self.index.root}/simple",
            PIP_CONFIG_FILE=os.devnull,
        )
        return kept

    def run(self, *arguments: str | Path) -> Run:
        program = Path(sys.executable).with_name("dockyard")
        return measure([program, *arguments], env=self.env)

    def prepare(self) -> None:
        """Build a project without dependencies, so that the base is there as everyone's is."""
        seed = self.folder / "seed"
        seed.mkdir(parents=True, exist_ok=True)
        (seed / "app.py").write_text("print('nothing')\n")
        (seed / "requirements.txt").write_text("")
        (seed / "dockyard.toml").write_text('python = "3.11"\n')
        self.run("build", "--quiet", "-o", f"oci:{self.folder / 'layout'}", seed)

    def reset(self) -> None:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def push(self, project: Project, tag: str) -> list[Run]:
        name = f"127.0.0.1:{self.port}/bench/{project.name}:{tag}"
        return [self.run("build", "--quiet", "--push", "-t", name, project.folder)]

    def without_push(self, project: Project) -> float:
        """Seconds of the same build when it goes nowhere: into a layout that has its layers."""
        layout = self.folder / "layout"
        self.run("build", "--quiet", "-o", f"oci:{layout}", project.folder)
        change_code(project, 90)
        return self.run("build", "--quiet", "-o", f"oci:{layout}", project.folder).seconds


def measure_pusher(
    pusher: Pusher, project: Project, proxy: CountingProxy, index: WheelIndex
) -> dict[str, Any]:
    """Take one contender through all the situations."""
    result: dict[str, Any] = {}

    def situation(key: str) -> None:
        proxy.reset()
        index.sent = 0
        runs = pusher.push(project, key)
        result[key] = {
            "seconds": round(sum(run.seconds for run in runs), 3),
            "registry_sent": proxy.sent,
            "registry_received": proxy.received,
            "wheels": index.sent,
        }
        print(f"  {pusher.name:9} {key:11} {json.dumps(result[key])}", flush=True)

    pusher.reset()
    if isinstance(pusher, DockyardPusher):
        pusher.prepare()
    situation("first")
    change_code(project, 1)
    situation("code")
    change_dependency(project)
    situation("dependency")
    if isinstance(pusher, DockyardPusher):
        result["code_without_push"] = round(pusher.without_push(project), 3)
        # The lock and the code of the empty machine are what the registry knows.
        pusher.run("lock", project.folder)
        pusher.push(project, "locked")
    pusher.reset()
    situation("empty")
    return result


def as_table(results: dict[str, Any]) -> str:
    """The results as Markdown, with ratios to Dockyard."""
    found = results["contenders"]
    names = [name for name in ("plain", "buildkit", "dockyard") if name in found]
    others = [name for name in names if name != "dockyard" and "dockyard" in found]
    title = f"# Pushing {results['example']}"
    lines = [title, "", results["machine"], ""]
    head = [*names, *(f"{name} / dockyard" for name in others)]
    lines.append("| | " + " | ".join(head) + " |")
    lines.append("|---|" + "---:|" * len(head))
    for key in SITUATIONS:
        moved = {
            name: (each[key]["registry_sent"] + each[key]["registry_received"]) / 1e6
            for name, each in found.items()
        }
        rows = {
            "s": {name: each[key]["seconds"] for name, each in found.items()},
            "MB moved to and from the registry": moved,
            "MB of wheels fetched": {
                name: each[key]["wheels"] / 1e6 for name, each in found.items()
            },
        }
        for unit, values in rows.items():
            cells = [f"{values[name]:,.2f}" for name in names]
            for name in others:
                own = values["dockyard"]
                cells.append(f"{values[name] / own:,.1f}" if own and values[name] else "")
            lines.append(f"| {key}, {unit} | " + " | ".join(cells) + " |")
    runs = {name: found[name]["run"] for name in names}
    if len(set(runs.values())) > 1:
        said = ", ".join(f"{name} {run}" for name, run in runs.items())
        lines += ["", f"Measured on one machine in several runs: {said}."]
    if "dockyard" in found:
        alone = found["dockyard"]["code_without_push"]
        beyond = found["dockyard"]["code"]["seconds"] - alone
        lines += [
            "",
            f"Dockyard's build of changed code without a push: {alone:.2f} s, so that the ",
        ]
        lines[-1] += f"push takes {beyond:.2f} s beyond the build."
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--example", choices=sorted(REQUIREMENTS), default="torch-digits")
    parser.add_argument("--only", action="append", choices=["plain", "buildkit", "dockyard"])
    options = parser.parse_args()
    work: Path = options.work.absolute()
    example: str = options.example
    target = HERE / "results" / f"push-{example}.json"
    known = json.loads(target.read_text())["contenders"] if target.exists() else {}
    run = time.strftime("%Y-%m-%d %H:%M")
    docker = Docker(folder=work / "docker", buildx=work / "docker-buildx")
    registry = Registry(program=work / "docker-registry", folder=work / "registry")
    wheels = work / ("wheels-cuda" if example == "cuda-torch" else "wheels")
    shutil.rmtree(work / "yard", ignore_errors=True)
    names = options.only or ["plain", "buildkit", "dockyard"]
    with_docker = set(names) - {"dockyard"}
    try:
        registry.start()
        if with_docker:
            docker.start()
            if not docker.run("images", "-q", "bench-python:3.11"):
                change = ["-c", "ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"]
                docker.run("import", *change, work / "base.tar", "bench-python:3.11")
                docker.run("import", work / "uv.tar", "bench-uv:1")
        with CountingProxy(lambda: registry.port) as proxy, WheelIndex(wheels) as index:
            through: Any = proxy  # a Dockerfile only asks its registry for the port
            common: Any = {"docker": docker, "registry": through, "wheels": f"{index.root}/files/"}
            pushers: list[Pusher] = [
                DockerPusher(
                    name="plain",
                    dockerfile=Dockerfile(name="plain", text=PLAIN, buildkit=False, **common),
                    cached=False,
                ),
                DockerPusher(
                    name="buildkit",
                    dockerfile=Dockerfile(name="buildkit", text=BEST, buildkit=True, **common),
                    cached=True,
                ),
                DockyardPusher(name="dockyard", folder=work / "yard", index=index, port=proxy.port),
            ]
            for pusher in pushers:
                if pusher.name not in names:
                    continue
                registry.clear()
                known[pusher.name] = measure_pusher(
                    pusher, first_project(example, work), proxy, index
                )
                known[pusher.name]["run"] = run
                version = subprocess.run(
                    ["dockerd", "--version"], capture_output=True, text=True, check=False
                ).stdout.split(",")[0]
                results = {
                    "example": example,
                    "day": time.strftime("%Y-%m-%d"),
                    "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux "
                    f"{platform.release()}, {version}, load {os.getloadavg()[0]:.1f} at the end.",
                    "contenders": known,
                }
                target.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
                target.with_suffix(".md").write_text(as_table(results))
    finally:
        registry.stop()
        if with_docker:
            docker.stop()
    print(target.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
