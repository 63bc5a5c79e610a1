"""DY1: what is sent to the build, and in which order it is copied."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import Cost, Edit, hit, megabytes
from dockyard.lint.rule import Zeros, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.installs import Install
    from dockyard.lint.subject import Copied, DockerfileView, Subject

_APP = "from flask import Flask\napp = Flask(__name__)\n"
_REQUIREMENTS = "flask==3.0.0\n"
_IGNORE = ".git\n.venv\nvenv\n**/__pycache__\n**/*.pyc\n.mypy_cache\n.pytest_cache\n.env\n"
# Folders that no build needs, and those that it hardly does.
_NEVER_NEEDED = frozenset(
    {
        *(".git", ".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *(".tox", ".nox", ".ipynb_checkpoints", "node_modules", ".idea", ".vscode"),
    }
)
_RARELY_NEEDED = frozenset(
    {
        *("data", "datasets", "dataset", "wandb", "mlruns", "lightning_logs", "runs"),
        *("notebooks", "checkpoints", "outputs", "logs", "tests"),
    }
)
_WORTH_SAYING = 1_000_000
_MODELS_WORTH_A_LAYER = 5_000_000


@rule(
    "DY101",
    "code-before-dependencies",
    "The code is copied before the dependencies are installed",
    cost="Every change of code installs all dependencies again: 38 s instead of 1 s for a small "
    "torch app, measured; minutes with CUDA.",
    why="""A layer is built anew when anything before it changed. With the code copied first, one
    changed character invalidates the installation. Copy the file of requirements, install,
    and copy the code last.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nWORKDIR /app\nCOPY . /app\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n",
        "requirements.txt": _REQUIREMENTS,
        "app.py": _APP,
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\nWORKDIR /app\nCOPY requirements.txt ./\n"
        "RUN pip install --no-cache-dir -r requirements.txt\nCOPY app.py ./\n",
        "requirements.txt": _REQUIREMENTS,
        "app.py": _APP,
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nWORKDIR /app\nCOPY requirements.txt /app/\n"
        "RUN pip install --no-cache-dir -r requirements.txt\nCOPY . /app\n",
        "requirements.txt": _REQUIREMENTS,
        "app.py": _APP,
    },
)
def code_before_dependencies(subject: Subject) -> Iterator[Hit]:
    """A COPY that takes Python files, before an installation from a file of requirements."""
    for view in subject.dockerfiles:
        for copied in view.copies:
            later = [
                install
                for install in view.installs
                if install.files
                and install.ran.stage is copied.stage
                and install.ran.step.line > copied.step.line
            ]
            if not later or not (copied.whole or _takes_code(view, copied)):
                continue
            count = len(view.required())
            packages = f"{count} package{'s' if count != 1 else ''}" if count else "everything"
            yield hit(
                view.path,
                copied.place,
                f"a change of any copied file installs {packages} again "
                f"(line {later[0].ran.place.line})",
                cost="rebuild: 38 s instead of 1 s for a small torch app (measured)",
                fix=f"Copy {later[0].files[0]} alone before the installation, the code after it.",
                edits=_moved(view, copied, later[0]),
            )


def _takes_code(view: DockerfileView, copied: Copied) -> bool:
    names = [file.path for file in copied.files(view.context)]
    return any(name.endswith(".py") and not name.endswith("setup.py") for name in names)


def _moved(view: DockerfileView, copied: Copied, install: Install) -> tuple[Edit, ...]:
    """The edits that put the COPY behind the installation, where that changes nothing else."""
    made, run = copied.step.instruction, install.ran.step.instruction
    lines = view.document.lines
    between = [
        step.keyword
        for step in copied.stage.steps
        if made.line < step.line < run.line and step.keyword not in ("ENV", "ARG", "LABEL")
    ]
    commands = [ran for ran in view.ran if ran.step is install.ran.step]
    files = {
        file.path: file
        for file in view.subject.requirements
        if file.path in install.files and not file.path.endswith(".toml")
    }
    plain = not any(
        re.match(r"(?:-r|--requirement|-c|-e)|\.|/|.*file:", option)
        for file in files.values()
        for option, _ in file.options
    )
    if (
        between
        or len(commands) != 1
        or not copied.whole
        or len(copied.sources) > 1
        or install.projects
        or len(files) != len(set(install.files))
        or not plain
        or made.flags
        or made.words is not None
    ):
        return ()
    target = copied.target if copied.target.endswith("/") else copied.target + "/"
    first = Edit(
        file=view.path,
        first=made.line,
        last=made.end_line,
        lines=(f"COPY {' '.join(sorted(files))} {'./' if target == './' else target}",),
    )
    moved = Edit(
        file=view.path,
        first=run.end_line + 1,
        last=run.end_line,
        lines=tuple(lines[made.line - 1 : made.end_line]),
    )
    return first, moved


@rule(
    "DY102",
    "no-dockerignore",
    "The build context holds what no image needs",
    cost="Megabytes sent with every build, and copied into the image: 262 MB in a real tree "
    "of .git, data and a virtual environment.",
    why="""Without .dockerignore the whole folder is the build context. `COPY . .` puts all of it
    into the image: history, virtual environments of the host, caches, data. Each change in
    them also invalidates the layer.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".git/objects/pack/a.pack": Zeros(2_000_000),
        "app.py": _APP,
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": _IGNORE,
        ".git/objects/pack/a.pack": Zeros(2_000_000),
        "app.py": _APP,
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": _IGNORE,
        ".git/objects/pack/a.pack": Zeros(2_000_000),
        "app.py": _APP,
    },
)
def no_dockerignore(subject: Subject) -> Iterator[Hit]:
    """A COPY of everything, without a .dockerignore or with one that leaves out too little."""
    for view in subject.dockerfiles:
        whole = [copied for copied in view.copies if copied.whole]
        if not whole:
            continue
        sizes = _unneeded(view)
        size = sum(sizes.values())
        has_file = bool(view.context.ignore_file)
        if has_file and size < _WORTH_SAYING:
            continue
        named = [
            f"{name} {megabytes(amount)}"
            for name, amount in sorted(sizes.items(), key=lambda item: -item[1])[:4]
            if amount >= 1000
        ]
        inside = f": {', '.join(named)}" if named else ""
        never = sorted(_NEVER_NEEDED & {name.rpartition("/")[2] for name in sizes})
        if has_file:
            file, place = view.context.ignore_file, Place(1)
            message = f"leaves in what no image needs{inside}"
            lines = tuple(
                name if name in (".git", ".venv", "venv") else f"**/{name}" for name in never
            )
            count = len((subject.read(file) or "").splitlines())
            edits = (Edit(file=file, first=count + 1, last=count, lines=lines),) if never else ()
        else:
            file, place = view.path, whole[0].place
            message = f"there is no .dockerignore, and everything is copied{inside}"
            lines = tuple(_IGNORE.splitlines())
            edits = (Edit(file=".dockerignore", first=1, last=0, lines=lines),)
        if _names_unneeded(view):
            edits = ()
        yield hit(
            file,
            place,
            message,
            cost=Cost(text=f"{megabytes(size)} in the context and the image", size=size)
            if size >= _WORTH_SAYING
            else "grows with the project's history, data and environments",
            fix="Write what the image doesn't need into .dockerignore.",
            edits=edits,
        )


def _unneeded(view: DockerfileView) -> dict[str, int]:
    """The sizes of the context's folders that images don't need, by path."""
    found: dict[str, int] = {}
    environments = {
        posixpath.dirname(file.path) for file in view.context.files if file.name == "pyvenv.cfg"
    }
    for file in view.context.files:
        parts = file.path.split("/")[:-1]
        for depth, part in enumerate(parts):
            path = "/".join(parts[: depth + 1])
            if (
                part in _NEVER_NEEDED
                or path in environments
                or (not depth and part in _RARELY_NEEDED)
            ):
                found[path] = found.get(path, 0) + file.size
                break
    return found


def _names_unneeded(view: DockerfileView) -> bool:
    """Whether the Dockerfile asks for one of those folders by name."""
    return any(
        part in _NEVER_NEEDED
        for copied in view.copies
        for source in copied.sources
        for part in source.split("/")
    ) or any(ran.command.name == "git" for ran in view.ran)


@rule(
    "DY103",
    "weights-with-code",
    "Weights and code are in one layer",
    cost="Every change of code pushes and pulls the weights again.",
    why="""A layer is the unit that registries and hosts store and move. Weights change rarely and
    are large; code changes often and is small. In one layer the weights move with each
    change of code.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": _IGNORE,
        "model.pt": Zeros(20_000_000),
        "app.py": _APP,
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": _IGNORE,
        "app.py": _APP,
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nCOPY model.pt /app/\nCOPY app.py /app/\n",
        ".dockerignore": _IGNORE,
        "model.pt": Zeros(20_000_000),
        "app.py": _APP,
    },
)
def weights_with_code(subject: Subject) -> Iterator[Hit]:
    """A COPY that takes model files and Python files together."""
    models = {file.path for file in subject.models}
    for view in subject.dockerfiles:
        for copied in view.copies:
            files = copied.files(view.context)
            weights = [file for file in files if file.path in models]
            size = sum(file.size for file in weights)
            if size < _MODELS_WORTH_A_LAYER:
                continue
            if not any(file.path.endswith(".py") for file in files):
                continue
            largest = max(weights, key=lambda file: file.size)
            yield hit(
                view.path,
                copied.place,
                f"{largest.path} is copied together with the code",
                cost=Cost(text=f"{megabytes(size)} move with every change of code", size=size),
                fix=f"Copy {largest.path} by itself first, then the code by its names.",
            )
