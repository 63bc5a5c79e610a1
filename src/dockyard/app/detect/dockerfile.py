"""What an existing Dockerfile says about starting the app: evidence, not a build recipe.

Rules: the last stage counts, with what it inherits from the stages it is built from; variables are
replaced where their values are in the file. What can't be told is left out. The grammar is in the
room `dockerfile`.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.stages import read_stages
from dockyard.dockerfile.words import assignments

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.dockerfile.stages import Step

NAMES = ("Dockerfile", "Containerfile", "dockerfile")
_MAX_SIZE = 1 << 20
# Variables about building, or about a file system that isn't ours.
_NOT_OURS = re.compile(
    r"PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHONPATH|PYTHONHOME|DEBIAN_FRONTEND|CUDA_\w+|NVIDIA_\w+"
    r"|PIP_\w+|UV_\w+|POETRY_\w+|CONDA_\w+|PYTHONDONTWRITEBYTECODE|HOME|SHELL|PYTHON_VERSION"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A value and its line."""

    value: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """What the last stage says. command and entrypoint: words, or None; (words, line)."""

    name: str
    image: Said | None = None
    command: tuple[tuple[str, ...], int] | None = None
    entrypoint: tuple[tuple[str, ...], int] | None = None
    env: dict[str, Said] = field(default_factory=dict)
    ports: tuple[Said, ...] = ()
    workdir: Said | None = None
    health: Said | None = None
    apt: tuple[Said, ...] = ()


def read_dockerfile(folder: Path) -> Dockerfile | None:
    """Read the folder's Dockerfile; None when there is none that can be read."""
    for name in NAMES:
        path = folder / name
        try:
            if not path.is_file() or path.stat().st_size > _MAX_SIZE:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        return parse_dockerfile(text, name=name)
    return None


def parse_dockerfile(text: str, *, name: str = "Dockerfile") -> Dockerfile:
    """Read what a Dockerfile's text says; never raises."""
    stages = read_stages(parse(text, name=name))
    if not stages:
        return Dockerfile(name=name)
    first = stages[-1].lineage()[0]
    image = Said(value=first.image, line=first.origin.line) if first.image else None
    said = Dockerfile(name=name, image=image)
    for step in stages[-1].all_steps():
        said = _instruction(said, step)
    return said


def _instruction(stage: Dockerfile, step: Step) -> Dockerfile:
    keyword, rest, line = step.keyword, step.instruction.rest, step.line
    if keyword == "CMD":
        return replace(stage, command=_words(rest, line))
    if keyword == "ENTRYPOINT":
        # The image's own command doesn't outlive a new entry point.
        return replace(stage, entrypoint=_words(rest, line), command=None)
    if keyword == "ENV":
        env = dict(stage.env)
        for key, word in assignments(rest):
            found = step.expanded(word.raw)
            if found is not None and not _NOT_OURS.fullmatch(key):
                env[key] = Said(value=found, line=line)
        return replace(stage, env=env)
    if keyword == "EXPOSE":
        ports = [step.expanded(word) for word in rest.split()]
        said = tuple(Said(value=port, line=line) for port in ports if port)
        return replace(stage, ports=stage.ports + said)
    if keyword == "WORKDIR":
        path = step.expanded(rest)
        if path is None:
            return replace(stage, workdir=None)
        if not path.startswith("/"):
            above = stage.workdir.value if stage.workdir else ""
            path = f"{above}/{path}"
        return replace(stage, workdir=Said(value=path.rstrip("/") or "/", line=line))
    if keyword == "HEALTHCHECK":
        found_url = re.search(
            r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)[^\s\"'/|]*(/[\w./-]*)", rest
        )
        return replace(stage, health=Said(value=found_url[1], line=line) if found_url else None)
    if keyword == "RUN":
        names = tuple(Said(value=package, line=line) for package in _apt_packages(step))
        return replace(stage, apt=stage.apt + names)
    return stage


def _words(rest: str, line: int) -> tuple[tuple[str, ...], int] | None:
    """The words of a command: the exec form, or the shell form, with a shell if it needs one."""
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return (tuple(words), line) if words else None
    from dockyard.app.values import shell_syntax

    rest = re.sub(r"^exec\s+", "", rest)
    if shell_syntax(rest) is None:
        try:
            return tuple(shlex.split(rest)), line
        except ValueError:
            return None
    return ("sh", "-c", rest), line


def _apt_packages(step: Step) -> list[str]:
    found: list[str] = []
    for command in step.script().commands:
        if command.name not in ("apt-get", "apt") or "install" not in command.texts:
            continue
        for word in command.texts[command.texts.index("install") + 1 :]:
            if re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(?:=\S+)?", word):
                found.append(word.partition("=")[0])
    return found
