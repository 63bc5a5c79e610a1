"""What an existing Dockerfile says about starting the app: evidence, not a build recipe.

Rules (Dockerfile reference): the last stage counts, with what it inherits from the stages it is
built from; a continued line ends with the escape character; comments and here-documents are
skipped; variables are replaced where their values are in the file. What can't be told is left out.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("Dockerfile", "Containerfile", "dockerfile")
_MAX_SIZE = 1 << 20
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^}]*))?\}|([A-Za-z_]\w*))")
_HEREDOC = re.compile(r"<<-?\s*[\"']?([A-Za-z_]\w*)[\"']?")
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
    stages: dict[str, tuple[Dockerfile, dict[str, str]]] = {}
    stage, arguments = Dockerfile(name=name), dict[str, str]()
    global_arguments: dict[str, str] = {}
    label, started = "", False
    for keyword, rest, line in _instructions(text):
        known = arguments | {key: said.value for key, said in stage.env.items()}
        if keyword == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            if started:
                stages[label] = (stage, arguments)
            image = _replaced(words[0], global_arguments) if words else None
            above = stages.get((image or "").lower())
            stage, arguments = above if above else (Dockerfile(name=name), {})
            arguments = dict(arguments)
            if image and not above:
                stage = replace(stage, image=Said(value=image, line=line))
            is_named = len(words) >= 3 and words[1].upper() == "AS"
            label = words[2].lower() if is_named else str(len(stages))
            started = True
        elif keyword == "ARG":
            for key, value in _pairs(rest):
                target = arguments if started else global_arguments
                found = _replaced(value, known) if value is not None else global_arguments.get(key)
                if found is not None:
                    target[key] = found
        else:
            stage = _instruction(stage, keyword, rest, line, known)
    return stage


def _instruction(
    stage: Dockerfile, keyword: str, rest: str, line: int, known: dict[str, str]
) -> Dockerfile:
    if keyword == "CMD":
        return replace(stage, command=_words(rest, line))
    if keyword == "ENTRYPOINT":
        # The image's own command doesn't outlive a new entry point.
        return replace(stage, entrypoint=_words(rest, line), command=None)
    if keyword == "ENV":
        env = dict(stage.env)
        for key, value in _pairs(rest):
            found = None if value is None else _replaced(value, known)
            if found is not None and not _NOT_OURS.fullmatch(key):
                env[key] = Said(value=found, line=line)
        return replace(stage, env=env)
    if keyword == "EXPOSE":
        ports = [_replaced(word, known) for word in rest.split()]
        said = tuple(Said(value=port, line=line) for port in ports if port)
        return replace(stage, ports=stage.ports + said)
    if keyword == "WORKDIR":
        path = _replaced(rest.strip().strip("\"'"), known)
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
        names = tuple(Said(value=package, line=line) for package in _apt_packages(rest))
        return replace(stage, apt=stage.apt + names)
    return stage


def _instructions(text: str) -> list[tuple[str, str, int]]:
    """(KEYWORD, the rest, line) of each instruction."""
    escape = "\\"
    found: list[tuple[str, str, int]] = []
    lines = text.removeprefix("\ufeff").splitlines()
    directive = re.match(r"#\s*escape\s*=\s*(.)", lines[0]) if lines else None
    if directive:
        escape = directive[1]
    at = 0
    while at < len(lines):
        start = at
        line = lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = ""
        while True:
            stripped = line.rstrip()
            if not stripped.endswith(escape):
                whole += line
                break
            whole += stripped[:-1] + " "
            while at < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith("#")):
                at += 1
            if at >= len(lines):
                break
            line = lines[at]
            at += 1
        keyword, _, rest = whole.strip().partition(" ")
        if keyword.upper() in ("RUN", "COPY"):
            for end in _HEREDOC.findall(rest):
                while at < len(lines) and lines[at].strip() != end:
                    at += 1
                at += 1
        found.append((keyword.upper(), rest.strip(), start + 1))
    return found


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


def _pairs(rest: str) -> list[tuple[str, str | None]]:
    """NAME=value pairs, or the old form NAME value."""
    first = rest.split(maxsplit=1)
    if first and "=" not in first[0] and len(first) == 2:
        return [(first[0], first[1])]
    try:
        words = shlex.split(rest)
    except ValueError:
        return []
    pairs = [word.partition("=") for word in words]
    return [(name, value if equals else None) for name, equals, value in pairs if name]


def _replaced(text: str, known: dict[str, str]) -> str | None:
    """The text with its variables replaced; None where one isn't known."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        name = match[1] or match[4]
        if match[2] == "-":
            return known.get(name) or match[3]
        if match[2] == "+":
            return match[3] if known.get(name) else ""
        if name not in known:
            missing = True
        return known.get(name, "")

    result = _VARIABLE.sub(value, text)
    return None if missing else result


def _apt_packages(rest: str) -> list[str]:
    found: list[str] = []
    for part in re.split(r"&&|;|\|\|", rest):
        words = part.split()
        if not {"apt-get", "apt"}.intersection(words) or "install" not in words:
            continue
        for word in words[words.index("install") + 1 :]:
            if re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(?:=\S+)?", word):
                found.append(word.partition("=")[0])
    return found
