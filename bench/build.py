"""Builds the same projects with Dockyard, a plain Dockerfile and the best-practice one.

    python bench/build.py --work FOLDER [--example torch-digits] [--only dockyard] ...

FOLDER is made ready by bench/prepare.sh; it needs root, dockerd and 40 GB of disk for cuda-torch.
Results go to bench/results/build-EXAMPLE.{json,md}; `--only` measures some and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from contenders import BEST, PLAIN, Contender, Dockerfile, Dockyard, Project
from rig import Docker, Registry, Run, serving

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"

REQUIREMENTS = {
    "torch-digits": ["torch==2.13.0", "fastapi==0.165.0", "uvicorn==0.54.0", "numpy==2.4.6"],
    "cuda-torch": ["torch==2.14.1", "fastapi==0.165.0", "uvicorn==0.54.0"],
}

# Both measure one app, FastAPI in front of a network, with other builds of torch.
APP = "cuda-torch"

SECOND_APP = """\
import torch
from flask import Flask

app = Flask(__name__)
layer = torch.nn.Linear(8, 2)


@app.get("/health")
def health():
    return {"outputs": layer(torch.zeros(8)).tolist()}
"""


def first_project(example: str, work: Path) -> Project:
    """A copy of the app, with the requirements.txt that the Dockerfiles need."""
    folder = work / "projects" / example
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLES / APP, folder, ignore=shutil.ignore_patterns("__pycache__"))
    settings = folder / "dockyard.toml"
    accelerator = "cuda" if example == APP else "cpu"
    settings.write_text(settings.read_text().replace('"cuda"', f'"{accelerator}"'))
    write_requirements(folder, REQUIREMENTS[example])
    return Project(
        folder=folder,
        name=example,
        command=("/opt/venv/bin/uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"),
        port=8000,
        path="/health",
    )


def second_project(example: str, work: Path) -> Project:
    """Another project with the same torch, and Flask where the first has FastAPI."""
    folder = work / "projects" / f"{example}-second"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(SECOND_APP)
    torch = [line for line in REQUIREMENTS[example] if line.startswith(("torch", "numpy"))]
    write_requirements(folder, [*torch, "flask==3.1.3", "gunicorn==27.0.1"])
    (folder / "dockyard.toml").write_text('name = "second"\npython = "3.11"\n')
    return Project(
        folder=folder,
        name=f"{example}-second",
        command=("/opt/venv/bin/gunicorn", "--bind", "0.0.0.0:8000", "app:app"),
        port=8000,
        path="/health",
    )


def write_requirements(folder: Path, lines: list[str]) -> None:
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))


def change_code(project: Project, number: int) -> None:
    """Change one line of the code."""
    with (project.folder / "app.py").open("a") as file:
        file.write(f"\nREVISION = {number}\n")


def change_dependency(project: Project) -> None:
    """Take uvicorn 0.53.0 instead of 0.54.0: a wheel of 90 kB."""
    for name in ("requirements.txt", "pyproject.toml"):
        path = project.folder / name
        if path.exists():
            path.write_text(path.read_text().replace("uvicorn==0.54.0", "uvicorn==0.53.0"))


def seconds(runs: list[Run]) -> float:
    return sum(run.seconds for run in runs)


def measure_contender(
    contender: Contender, example: str, work: Path, docker: Docker, *, starts: bool, repeat: int
) -> dict[str, Any]:
    """Take one contender through all the situations."""
    project = first_project(example, work)
    result: dict[str, Any] = {}

    def say(key: str, value: float) -> None:
        result[key] = value
        print(f"  {contender.name:9} {key:28} {value:,.2f}", flush=True)

    memory = 0
    cold = []
    for _ in range(repeat):
        contender.reset()
        runs = contender.publish(project, "cold")
        cold.append(seconds(runs))
        result["cold_parts"] = [round(run.seconds, 2) for run in runs]
        memory = max(memory, *(run.memory for run in runs))
    say("cold", statistics.median(cold))
    say("compressed", contender.size(project, "cold"))
    loaded = contender.build(project, "cold")
    say("again_in_docker", loaded.seconds)
    image = contender.image(project, "cold")
    say("uncompressed", docker.size(image))
    if starts:
        env = {"MODEL_PATH": "/app/model.pt"}
        times = [
            docker.first_answer(image, project.path, port=project.port, env=env) for _ in range(4)
        ]
        say("first_start", times[0])
        say("start", statistics.median(times[1:]))
    changed = []
    for number in range(3):
        change_code(project, number)
        run = contender.build(project, f"code{number}")
        changed.append(run.seconds)
        memory = max(memory, run.memory)
    say("code_change", statistics.median(changed))
    change_dependency(project)
    runs = contender.publish(project, "dependency")
    say("dependency_change", seconds(runs))
    memory = max(memory, *(run.memory for run in runs))
    runs = contender.publish(second_project(example, work), "second")
    say("second_project", seconds(runs))
    memory = max(memory, *(run.memory for run in runs))
    say("memory", memory)
    contender.reset()
    return result


ROWS = [
    ("cold", "cold build, registry-ready (s)", "{:.1f}", 1),
    ("code_change", "one line of code changed, in Docker (s)", "{:.2f}", 1),
    ("dependency_change", "one small dependency changed, registry-ready (s)", "{:.2f}", 1),
    ("second_project", "second project with the same big wheels, registry-ready (s)", "{:.2f}", 1),
    ("compressed", "size, compressed (MB)", "{:.0f}", 1e6),
    ("uncompressed", "size, uncompressed (MB)", "{:.0f}", 1e6),
    ("first_start", "first `docker run` to first answer (s)", "{:.2f}", 1),
    ("start", "later `docker run` to first answer, median of 3 (s)", "{:.2f}", 1),
    ("memory", "peak memory, with daemon and build containers (MB)", "{:.0f}", 1e6),
    ("load_after", "load of the machine at the end, other work included", "{:.1f}", 1),
]


def as_table(example: str, results: dict[str, Any]) -> str:
    """The results as Markdown, with ratios to Dockyard."""
    names = [name for name in ("plain", "best", "dockyard") if name in results["contenders"]]
    lines = [f"# {example}", "", results["machine"], ""]
    ratios = [f"{name} / dockyard" for name in names if name != "dockyard"]
    lines.append("| | " + " | ".join([*names, *ratios]) + " |")
    lines.append("|---|" + "---:|" * (len(names) + len(ratios)))
    found = results["contenders"]
    for key, title, form, unit in ROWS:
        values = [found[name].get(key) for name in names]
        if all(value is None for value in values):
            continue
        cells = ["" if value is None else form.format(value / unit) for value in values]
        own = found.get("dockyard", {}).get(key)
        for name in names:
            if name != "dockyard":
                other = found[name].get(key)
                shown = own and other and key != "load_after"
                cells.append(f"{other / own:.1f}" if shown else "")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--example", choices=sorted(REQUIREMENTS), default="torch-digits")
    parser.add_argument("--only", action="append", choices=["plain", "best", "dockyard"])
    parser.add_argument("--repeat", type=int, default=1, help="cold builds, of which the median")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    example: str = options.example
    docker = Docker(folder=work / "docker", buildx=work / "docker-buildx")
    registry = Registry(program=work / "docker-registry", folder=work / "registry")
    wheels = work / ("wheels-cuda" if example == "cuda-torch" else "wheels")
    target = HERE / "results" / f"build-{example}.json"
    target.parent.mkdir(exist_ok=True)
    known = json.loads(target.read_text())["contenders"] if target.exists() else {}
    shutil.rmtree(work / "yard", ignore_errors=True)
    docker.start()
    try:
        registry.start()
        if not docker.run("images", "-q", "bench-python:3.11"):
            change = ["-c", "ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"]
            docker.run("import", *change, work / "base.tar", "bench-python:3.11")
            docker.run("import", work / "uv.tar", "bench-uv:1")
        version = docker.run("version", "-f", "{{.Server.Version}}").strip()
        with serving(wheels) as url:
            common: Any = {"docker": docker, "registry": registry, "wheels": url}
            yard = Dockyard(name="dockyard", folder=work / "yard", docker=docker, wheels=wheels)
            contenders: list[Contender] = [
                Dockerfile(name="plain", text=PLAIN, buildkit=False, **common),
                Dockerfile(name="best", text=BEST, buildkit=True, **common),
                yard,
            ]
            for contender in contenders:
                if options.only and contender.name not in options.only:
                    continue
                if contender is yard:
                    yard.prepare()
                known[contender.name] = measure_contender(
                    contender,
                    example,
                    work,
                    docker,
                    starts=example != "cuda-torch",
                    repeat=options.repeat,
                )
                load = os.getloadavg()[0]
                known[contender.name]["load_after"] = load
                results = {
                    "example": example,
                    "day": time.strftime("%Y-%m-%d"),
                    "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux "
                    f"{platform.release()}, Docker {version}.",
                    "contenders": known,
                }
                target.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
                target.with_suffix(".md").write_text(as_table(example, results))
    finally:
        registry.stop()
        docker.stop()
    print(target.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
