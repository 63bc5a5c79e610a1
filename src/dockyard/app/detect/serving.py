"""Whether Dockyard's own server serves the project, and what: a model file or a Python class.

Rules:
- `[serve]` says so; else only where nothing else can be started: no command, no web app, no
  program. A class whose name ends in Predictor and that has `predict` is served, else the one model
  file of a format that can be.
- A model file is judged here as the server will judge it: what it would refuse to load is an error
  of the build, not of the container.
- What the server itself and the model need to run is added to the project's dependencies; a
  framework that the project names already is left to it, in the version that it wants.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dockyard.app.detect.serve import Start, import_place
from dockyard.errors import ProjectError
from dockyard_serve.formats.kinds import SUFFIXES, UnknownFormat, format_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.app.config import AppConfig, ConfigOrigin
    from dockyard.app.detect.dependencies import DependencySource
    from dockyard.app.detect.facts import Code, Module
    from dockyard.app.ignore import Project
    from dockyard_serve.formats.kinds import Format

PORT = 8080
HEALTH = "/healthz"
SERVER = "dockyard"  # what `Start.server` says
_TRAINED = re.compile(r"(?:^|[/_.-])(?:checkpoint|ckpt|optimizer|epoch)", re.IGNORECASE)
_HOW = 'Say which: `model = "model.onnx"` under [serve] in dockyard.toml.'


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What is served.

    target: a path in the project, or "module:Class"; formats: of the model files, none for a class;
    module: the class's file.
    """

    kind: Literal["file", "class"]
    target: str
    why: str
    where: str = ""
    formats: tuple[Format, ...] = ()
    module: str | None = None

    def requirements(self, source: DependencySource) -> tuple[str, ...]:
        """What the model needs besides the server, as far as the project doesn't name it."""
        named = source.names()
        missing = [each for each in self.formats if not named.intersection(each.providers)]
        return tuple(dict.fromkeys(text for each in missing for text in each.requirements))


def detect_serving(
    config: AppConfig,
    origin: ConfigOrigin,
    project: Project,
    code: Code,
    models: Sequence[str],
    *,
    starts: Literal["app", "script", ""],
) -> Serving | None:
    """Decide what is served, if anything; raises ProjectError when that can't be told.

    models: the project's model files; starts: what else of the project can be started.
    """
    said = config.serve
    if said is not None and (config.command or config.entrypoint):
        key = "command" if config.command else "entrypoint"
        raise ProjectError(
            f"[serve] and `{key}` contradict each other: one process is started",
            where=origin.where("serve"),
            hint=f"Leave out `{key}`, or [serve].",
        )
    if said is not None and said.model is not None:
        where = origin.where("serve", "model")
        if said.file is None:
            return _named_class(said.model, code, where)
        path = _named_file(said.file, project, where)
        return _file(project, path, config, why="as configured", where=where)
    if said is None and starts == "app":
        return None
    found = _predictors(code)
    # Beside a program, only the plain name says that it is meant to be served.
    if found and (said is not None or not starts or found.target.endswith(":Predictor")):
        return found
    if said is None and starts:
        return None
    servable = _servable(project, models)
    if len(servable) == 1:
        why = "the one model file here, and nothing else to start"
        return _file(project, servable[0], config, why=why, where=servable[0])
    if servable and (said is not None or not code.modules):
        listed = "\n".join(f"  {path}" for path in servable)
        raise ProjectError(
            f"there are several models, and nothing says which one to serve:\n{listed}", hint=_HOW
        )
    if said is not None:
        raise ProjectError(
            "[serve] is there, and nothing that can be served",
            where=origin.where("serve"),
            hint="Add a model file, or a class `Predictor` with a method `predict`; or name it: "
            '`model = "predictor:Predictor"`.',
        )
    return None


def start_serving(
    serving: Serving, config: AppConfig, workdir: str, modules: Mapping[str, Module]
) -> Start:
    """The command that starts the server in the image."""
    port = next((port.number for port in config.ports if port.protocol == "tcp"), PORT)
    env: dict[str, str] = {}
    target = serving.target
    if serving.module is not None:
        name, env = import_place(modules[serving.module], workdir)
        target = f"{name}:{serving.target.partition(':')[2]}"
    return Start(
        command=("python", "-m", "dockyard_serve", target, *_options(config), "--port", str(port)),
        why=f"Dockyard's server: {serving.why}",
        where=serving.where,
        module=serving.module,
        port=port,
        server=SERVER,
        env=env,
    )


def _options(config: AppConfig) -> list[str]:
    """The settings of [serve] as the server's own options."""
    from dockyard.app.values import duration_text

    said = config.serve
    if said is None:
        return []
    words: list[str] = []
    for option, value in (
        ("--name", said.name),
        ("--workers", said.workers),
        ("--max-batch-size", said.max_batch_size),
        ("--max-delay", said.max_delay and duration_text(said.max_delay)),
        ("--timeout", said.timeout and duration_text(said.timeout)),
        ("--device", said.device),
    ):
        words += [option, str(value)] if value is not None else []
    for name, spec in said.inputs.items():
        words += ["--input", f"{name}={spec}"]
    return [*words, *(["--trust"] if said.trust else [])]


def _predictors(code: Code) -> Serving | None:
    """The one class that predicts, nearest to the root."""
    found = [(module, fact) for module in code.modules.values() for fact in module.predictors]
    if not found:
        return None
    # A file that another one imports is a part of it, such as a base class.
    imported = {path for module, _ in found for path in module.local}
    roots = [item for item in found if item[0].path not in imported] or found
    nearest = min(module.depth for module, _ in roots)
    best = [item for item in roots if item[0].depth == nearest]
    exact = [item for item in best if item[1].text == "Predictor"]
    best = exact if len(exact) == 1 else best
    if len(best) > 1:
        listed = "\n".join(f"  {module.path}:{fact.line}: {fact.text}" for module, fact in best)
        raise ProjectError(
            f"there are several predictors, and nothing says which one to serve:\n{listed}",
            hint='Say which: `model = "predictor:Predictor"` under [serve] in dockyard.toml.',
        )
    module, fact = best[0]
    return Serving(
        kind="class",
        target=f"{module.name}:{fact.text}",
        why=f"the class {fact.text} has a method `predict`",
        where=f"{module.path}:{fact.line}",
        module=module.path,
    )


def _named_class(target: str, code: Code, where: str) -> Serving:
    name, _, attribute = target.partition(":")
    for module in code.modules.values():
        if module.name.removeprefix("src.") == name or module.name == name:
            return Serving(
                kind="class", target=target, why="as configured", where=where, module=module.path
            )
    raise ProjectError(
        f"there is no module {name} in the project that could have the class {attribute}",
        where=where or None,
        hint="Name it from the project's folder: `package.module:Class`.",
    )


def _named_file(path: str, project: Project, where: str) -> str:
    inside = project.paths()
    if path in inside or any(name.startswith(f"{path}/") for name in inside):
        return path
    there = (project.folder / path).exists()
    what = "is left out of the image" if there else "isn't there"
    raise ProjectError(
        f"the model {path} {what}",
        where=where or None,
        hint=f'Keep it: include = ["{path}"] in dockyard.toml.' if there else _HOW,
    )


def _servable(project: Project, models: Sequence[str]) -> list[str]:
    """The model files that could be served: those of a known format that aren't checkpoints."""
    folders = {posixpath.dirname(path) for path in models if path.endswith("/saved_model.pb")}
    files = [
        path
        for path in models
        if path.lower().endswith(SUFFIXES)
        and not _TRAINED.search(path)
        and not any(path.startswith(f"{folder}/") for folder in folders)
    ]
    found = sorted([*folders, *files], key=lambda path: (path.count("/"), path))
    if found:
        nearest = found[0].count("/")
        found = [path for path in found if path.count("/") == nearest]
    return found


def _file(project: Project, path: str, config: AppConfig, *, why: str, where: str) -> Serving:
    versions = _versions_in(project, path)
    kinds = [_format(project, model, config, where=where) for model in versions or [path]]
    return Serving(
        kind="file", target=path, why=why, where=where, formats=tuple(dict.fromkeys(kinds))
    )


def _versions_in(project: Project, path: str) -> list[str]:
    """The models of a folder in the server's layout, NAME/VERSION/file; none if it is no such."""
    below = [file.path for file in project.files if file.path.startswith(f"{path}/")]
    found = []
    for file in below:
        parts = file.removeprefix(f"{path}/").split("/")
        if len(parts) == 3 and parts[2] == "saved_model.pb":
            found.append(posixpath.dirname(file))
        elif len(parts) == 3 and file.lower().endswith(SUFFIXES):
            found.append(file)
    return found


def _format(project: Project, path: str, config: AppConfig, *, where: str) -> Format:
    """A model's format; raises ProjectError for what the server would refuse."""
    trusted = config.serve is not None and config.serve.trust
    absolute = project.folder / path
    named = "" if where == path else f"{path} "
    try:
        kind = format_of(absolute)
    except UnknownFormat as error:
        raise ProjectError(
            f"{named}isn't a model that can be served: {error}",
            where=where or None,
            hint="Write a class `Predictor` with `setup` and `predict` that loads it.",
        ) from None
    except OSError as error:
        raise ProjectError(f"can't be read: {error.strerror or error}", where=path) from None
    if kind.executes and not trusted:
        from dockyard_serve.formats.refusal import refusal

        refused = refusal(kind, absolute)
        raise ProjectError(f"{named}{refused.what}", where=where or None, hint=refused.hint)
    return kind
