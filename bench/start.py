"""How quickly a project starts with no bytecode, with the profile's and with all of it.

    python bench/start.py --work FOLDER [--example torch-digits]

FOLDER as for bench/build.py. Every image is started in Docker several times, in turn; the first
round, in which the files come from the disk, is reported apart. It also runs the app once with
the unpacked image's own Python to see which modules a real start loads, and says how much of
them the profile covers. Results: bench/results/start-EXAMPLE.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tarfile
from pathlib import Path
from typing import Any

from contenders import Dockyard
from rig import Docker

from build import REQUIREMENTS, first_project

HERE = Path(__file__).resolve().parent
MODES = ("none", "profile", "all")
ROUNDS = 5

# Imports and serves as the start command does, asks once, and tells what is loaded then.
PROBE = """
import json, sys, threading, time, urllib.request, uvicorn
sys.path.insert(0, "/app")
server = uvicorn.Server(uvicorn.Config("app:app", port=8000, log_level="error"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.05)
urllib.request.urlopen("http://127.0.0.1:8000/health").read()
found = [getattr(m, "__spec__", None) for m in list(sys.modules.values())]
print(json.dumps([s.origin for s in found if s and str(s.origin).endswith(".py")]))
"""


def bytecode_files(docker: Docker, image: str, folder: Path) -> dict[str, int]:
    """The image's pycs, by the path of their source, with their sizes."""
    name = docker.run("create", "--network=host", image).strip()
    archive = folder / "image.tar"
    docker.run("export", "-o", archive, name)
    docker.run("rm", name)
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path("/", member.name)
            if path.suffix == ".pyc":
                source = path.parent.parent / (path.name.partition(".")[0] + ".py")
                found[str(source)] = member.size
    archive.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--example", choices=sorted(REQUIREMENTS), default="torch-digits")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    docker = Docker(folder=work / "docker", buildx=work / "docker-buildx")
    wheels = work / "wheels"
    shutil.rmtree(work / "yard", ignore_errors=True)
    yard = Dockyard(name="dockyard", folder=work / "yard", docker=docker, wheels=wheels)
    results: dict[str, Any] = {mode: {} for mode in MODES}
    docker.start()
    try:
        yard.prepare()
        yard.reset()
        project = first_project(options.example, work)
        pycs: dict[str, dict[str, int]] = {}
        for mode in MODES:
            built = yard.build(project, mode, "--bytecode", mode)
            image = yard.image(project, mode)
            pycs[mode] = bytecode_files(docker, image, work)
            results[mode] |= {
                "build": built.seconds,
                "files": len(pycs[mode]),
                "bytes": sum(pycs[mode].values()),
                "image": docker.size(image),
            }
        starts: dict[str, list[float]] = {mode: [] for mode in MODES}
        for _ in range(ROUNDS + 1):
            for mode in MODES:
                image = yard.image(project, mode)
                taken = docker.first_answer(image, project.path, port=project.port, env={})
                starts[mode].append(taken)
        for mode in MODES:
            results[mode]["first"] = starts[mode][0]
            results[mode]["start"] = statistics.median(starts[mode][1:])
        arguments = ["run", "--rm", "--network=host", "--entrypoint", "/opt/venv/bin/python"]
        image = yard.image(project, "profile")
        said = docker.run(*arguments, image, "-c", PROBE)
        loaded = {path for path in json.loads(said) if path in pycs["all"]}
        sizes = pycs["all"]
        covered = sum(sizes[path] for path in loaded if path in pycs["profile"])
        spare = sum(size for path, size in pycs["profile"].items() if path not in loaded)
        total = sum(sizes[path] for path in loaded)
        results["coverage"] = {"loaded": total, "covered": covered, "spare": spare}
    finally:
        docker.stop()
    lines = [
        f"# Start of {options.example}",
        "",
        "| bytecode | pycs | MB | image (MB) | `docker run` to first answer (s) | first time (s) |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for mode in MODES:
        row = results[mode]
        lines.append(
            f"| {mode} | {row['files']} | {row['bytes'] / 1e6:.0f} | {row['image'] / 1e6:.0f} "
            f"| {row['start']:.2f} | {row['first']:.2f} |"
        )
    lines += [
        "",
        f"A real start loads {total / 1e6:.1f} MB of bytecode; the profile has "
        f"{covered / total:.1%} of it, and {spare / total:.1%} as much besides.",
    ]
    target = HERE / "results" / f"start-{options.example}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    target.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
