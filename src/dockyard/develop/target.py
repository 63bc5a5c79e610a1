"""What `dockyard serve` is asked to serve, and what that needs to run.

Rules: a project's folder is understood as a build understands it, `[serve]` included. A model file,
a folder of models and `module:Class` need no project around them; what the folder of a class
depends on is taken along.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dockyard.errors import ProjectError, UsageError
from dockyard_serve.formats.kinds import SUFFIXES, UnknownFormat, format_of

_CLASS = re.compile(r"(?P<module>[A-Za-z_][\w./-]*?)(?P<suffix>\.py)?:(?P<name>[A-Za-z_]\w*)")
_SOURCES = ("requirements.txt", "pyproject.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeTarget:
    """What to serve, as the server names it.

    folder: where it starts, and whose files are watched; requirements: what is needed besides what
    `files` (requirements files, pyproject.toml) ask for; modules: imports that show it is there;
    options: the server's own.
    """

    target: str
    folder: Path
    requirements: tuple[str, ...]
    files: tuple[Path, ...] = ()
    modules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    cpu: bool = False


def read_target(text: str) -> ServeTarget:
    """Understand the argument; raises ProjectError or UsageError that says what it may be."""
    path = Path(text)
    if path.is_file() and path.suffix != ".py":
        return _of_models(path, [path])
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return _of_models(path, [path])
        models = _models_in(path)
        return _of_models(path, models) if models else _of_project(path)
    found = _CLASS.fullmatch(text)
    if found is None:
        what = (
            "is code: say which class of it" if path.is_file() else "is nothing that can be served"
        )
        raise UsageError(
            f"{text} {what}",
            hint="Name a model file, a project's folder, a folder of models, or module:Class.",
        )
    return _of_class(found, text)


def _of_models(target: Path, models: list[Path]) -> ServeTarget:
    requirements: dict[str, None] = {}
    modules: dict[str, None] = {}
    for model in models:
        try:
            kind = format_of(model)
        except UnknownFormat as error:
            raise ProjectError(
                f"isn't a model that can be served: {error}",
                where=str(model),
                hint="Write a class `Predictor` with `setup` and `predict` that loads it.",
            ) from None
        requirements |= dict.fromkeys(kind.requirements)
        modules |= dict.fromkeys(kind.modules)
    return ServeTarget(
        target=str(target.resolve()),
        folder=Path.cwd(),
        requirements=tuple(requirements),
        modules=tuple(modules),
    )


def _models_in(folder: Path) -> list[Path]:
    """The models of a folder in the server's layout: NAME/VERSION/file."""
    found = [
        path
        for path in folder.glob("*/*/*")
        if path.suffix.lower() in SUFFIXES and path.parent.name[:1] not in (".", "_")
    ]
    found += [path.parent for path in folder.glob("*/*/saved_model.pb")]
    is_project = any((folder / name).exists() for name in (*_SOURCES, "dockyard.toml"))
    return [] if is_project or any(folder.glob("*.py")) else sorted(found)


def _of_class(found: re.Match[str], text: str) -> ServeTarget:
    folder = Path.cwd()
    module = found["module"]
    if found["suffix"] or "/" in module:
        file = Path(f"{module}.py")
        if not file.is_file():
            raise UsageError(f"there is no file {file}", hint="Name it from the current folder.")
        folder, module = file.resolve().parent, file.stem
    files = tuple(folder / name for name in _SOURCES if (folder / name).is_file())[:1]
    return ServeTarget(
        target=f"{module}:{found['name']}",
        folder=folder,
        requirements=(),
        files=files,
        modules=("pydantic", "python_multipart"),
    )


def _of_project(folder: Path) -> ServeTarget:
    from dockyard.app.config import load_config
    from dockyard.app.detect import detect
    from dockyard.app.ignore import project_root

    root = project_root(folder)
    config, origin = load_config(root)
    detected = detect(root, config, origin)
    serving = detected.serving
    if serving is None:
        words = " ".join((*detected.entrypoint.value, *detected.command.value))
        raise ProjectError(
            f"the project starts a program of its own ({words}), so Dockyard's server isn't in it",
            where=str(root),
            hint="Run that, or `dockyard run`; to serve a model instead: [serve] in dockyard.toml.",
        )
    source = detected.dependencies.value
    command = detected.command.value
    at = command.index("dockyard_serve") + 1
    options = command[at + 1 : command.index("--port")]
    target = str(root / serving.target) if serving.kind == "file" else command[at]
    inside = detected.variables().get("PYTHONPATH", "")
    below = inside.removeprefix(detected.workdir.value).strip("/")
    return ServeTarget(
        target=target,
        folder=root / below,
        requirements=(*serving.requirements(source), *source.requirements),
        files=tuple(root / name for name in source.files if name.endswith((".txt", ".toml"))),
        modules=tuple(name for each in serving.formats for name in each.modules)
        or ("pydantic", "python_multipart"),
        options=options,
        cpu=detected.accelerator.value == "cpu",
    )
