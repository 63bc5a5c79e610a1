"""What a project is, found out by looking at it: every decision with its reason and evidence.

Rules: what the configuration says wins, and detection fills in the rest. Nothing is run, imported
or fetched. What can't be told, or has two likely answers, is a ProjectError that says how to
choose. `Detected` has everything that a build needs to know about the project.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from dockyard.app.detect.decision import Decision
from dockyard.app.detect.dependencies import (
    DependencySource,
    Documents,
    Named,
    detect_dependencies,
    ignored_requirements,
    read_documents,
)
from dockyard.app.detect.facts import Code
from dockyard.app.detect.framework import (
    detect_accelerator,
    framework_of,
    package_of,
    unmet_imports,
)
from dockyard.app.detect.listen import (
    HealthCheck,
    health_route,
    listens_early,
    port_of_call,
    writable_folders,
)
from dockyard.app.detect.models import detect_models, named_models, only_models
from dockyard.app.detect.python import PythonChoice, PythonWish, choose_python, detect_python
from dockyard.app.ignore import project_root, walk_project
from dockyard.app.values import Port, image_name, is_reserved
from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dockyard.app.config import AppConfig, ConfigOrigin
    from dockyard.app.detect.dockerfile import Dockerfile
    from dockyard.app.detect.serve import Start
    from dockyard.app.detect.serving import Serving
    from dockyard.app.ignore import Project

__all__ = [
    "Decision",
    "DependencySource",
    "Detected",
    "HealthCheck",
    "Named",
    "PythonChoice",
    "PythonWish",
    "choose_python",
    "detect",
    "framework_of",
    "package_of",
    "unmet_imports",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """Everything about a project that a build needs, each with its reason.

    python: what is wished for; `choose_python` picks among what a base offers. imports: the
    third-party modules that the app can't do without, and where it imports them. writable:
    absolute folders of the image; serving: what Dockyard's own server serves, if it does;
    warnings: one line each.
    """

    folder: Path
    project: Project
    name: Decision[str]
    dependencies: Decision[DependencySource]
    python: Decision[PythonWish]
    framework: Decision[tuple[str, ...]]
    accelerator: Decision[Literal["cpu", "cuda", "auto"]]
    command: Decision[tuple[str, ...]]
    entrypoint: Decision[tuple[str, ...]]
    module: str | None
    workdir: Decision[str]
    ports: Decision[tuple[Port, ...]]
    healthcheck: Decision[HealthCheck | None]
    env: Mapping[str, Decision[str]]
    writable: tuple[Decision[str], ...]
    models: Decision[tuple[str, ...]]
    imports: Mapping[str, str]
    serving: Serving | None = None
    warnings: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """The image's environment, as far as the app decides it."""
        return {name: decision.value for name, decision in self.env.items()}

    def decisions(self) -> tuple[tuple[str, str, str], ...]:
        """(what, value, reason) of each decision, for a plan to print."""
        source = self.dependencies.value
        health = self.healthcheck.value
        shown: list[tuple[str, str, Decision[object]]] = [
            ("name", self.name.value, self.name),
            ("dependencies", source.title, self.dependencies),
            ("python", str(self.python.value), self.python),
            ("framework", ", ".join(self.framework.value) or "none", self.framework),
            ("accelerator", self.accelerator.value, self.accelerator),
            ("command", _line((*self.entrypoint.value, *self.command.value)), self.command),
            ("workdir", self.workdir.value, self.workdir),
            ("ports", ", ".join(map(str, self.ports.value)) or "none", self.ports),
            ("healthcheck", _health_text(health), self.healthcheck),
            ("models", _count(len(self.models.value), "file"), self.models),
        ]
        shown += [("env", f"{name}={item.value}", item) for name, item in self.env.items()]
        shown += [("writable", item.value, item) for item in self.writable]
        return tuple((what, value, str(decision)) for what, value, decision in shown)


def detect(
    folder: Path,
    config: AppConfig,
    origin: ConfigOrigin | None = None,
    *,
    outputs: Sequence[Path] = (),
) -> Detected:
    """Look at a project; raises ProjectError or ConfigError with what, where and what to do.

    origin: where config was read, for evidence; outputs: what the build writes, left out.
    """
    from dockyard.app.config import ConfigOrigin
    from dockyard.app.detect.code import read_code
    from dockyard.app.detect.dockerfile import read_dockerfile
    from dockyard.app.detect.entry import Evidence, detect_start, what_starts
    from dockyard.app.detect.serving import detect_serving, start_serving

    origin = origin or ConfigOrigin()
    root = project_root(folder)
    documents = read_documents(root)
    dockerfile = read_dockerfile(root)
    workdir = _workdir(config, origin, dockerfile)
    env = _environment(root, config, origin, dockerfile)
    variables = {name: decision.value for name, decision in env.items()}

    project = walk_project(root, config, outputs=outputs)
    code = read_code(project, workdir=workdir.value, variables=variables)
    words = (*(config.entrypoint or ()), *(config.command or ()))
    keep = named_models(root, code, variables, words, workdir=workdir.value)
    keep += [config.serve.file] if config.serve and config.serve.file else []
    if keep and not project.paths().issuperset(keep):
        project = walk_project(root, config, keep=keep, outputs=outputs)
    models = detect_models(project)
    starts = what_starts(root, config, code, documents, dockerfile)
    serving = detect_serving(config, origin, project, code, models.value, starts=starts)
    _refuse_emptiness(root, project, code, config, serving)
    if serving is not None and serving.kind == "file":
        # Nothing of the code runs in that image.
        project, models = only_models(project, models, serving.target, config)
        code = Code(modules={})

    source = detect_dependencies(root, config, origin, documents, code.imports(optional=False))
    evidence = Evidence(
        folder=root,
        project=project,
        code=code,
        config=config,
        origin=origin,
        documents=documents,
        dockerfile=dockerfile,
        source=source.value,
        variables=variables,
        workdir=workdir.value,
    )
    start = (
        start_serving(serving, config, workdir.value, code.modules)
        if serving is not None
        else detect_start(evidence)
    )
    for name, value in start.env.items():
        why = "the start command relies on it"
        env.setdefault(name, Decision(value=value, why=why, where=start.where))
    if config.stack is not None and config.stack.database is not None:
        # Records lie there until the database has them, and a volume keeps them.
        kept = f"{workdir.value.rstrip('/')}/logs"
        why = "what the prediction log keeps until the database has it"
        env.setdefault("LOG_DIR", Decision(value=kept, why=why, where=origin.where("stack")))
    variables = {name: decision.value for name, decision in env.items()}

    modules = code.reachable(start.module) if start.module else list(code.modules.values())
    imports = code.imports(modules)
    ports = _ports(config, origin, dockerfile, start, code)
    names = {item.name: item.where for item in reversed(source.value.named)}
    names |= _served_packages(serving, source.value)
    warnings = [*origin.warnings, *evidence.warnings, *start.warnings, *project.left_out]
    warnings += _missing_variables(modules, variables)
    warnings += _apt_advice(config, dockerfile)
    if ignored := ignored_requirements(root, source.value, documents):
        warnings.append(
            f"pyproject.toml is used, not requirements.txt, which also names {', '.join(ignored)}; "
            'to use that: requirements = "requirements.txt" in dockyard.toml'
        )
    warnings += [
        f"{fault.text} isn't Python that can be read: what it says isn't known"
        for fault in code.faults
    ]
    return Detected(
        folder=root,
        project=project,
        name=_name(root, config, origin, documents),
        dependencies=source,
        python=detect_python(root, config, origin, documents, dockerfile),
        framework=framework_of(names, imports),
        accelerator=detect_accelerator(config, origin, source.value),
        command=Decision(value=start.command, why=start.why, where=start.where),
        entrypoint=Decision(value=start.entrypoint, why=start.why, where=start.where),
        module=start.module,
        workdir=workdir,
        ports=ports,
        healthcheck=_health(config, origin, dockerfile, start, ports, code),
        env=MappingProxyType(dict(sorted(env.items()))),
        writable=writable_folders(modules, variables, workdir=workdir.value),
        models=models,
        imports=MappingProxyType(code.imports(modules, optional=False)),
        serving=serving,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _served_packages(serving: Serving | None, source: DependencySource) -> dict[str, str]:
    """The packages that a served model needs and the project doesn't name."""
    needed = serving.requirements(source) if serving is not None else ()
    names = [re.split(r"[^\w-]", text, maxsplit=1)[0] for text in needed]
    return dict.fromkeys(names, serving.target if serving is not None else "")


def _refuse_emptiness(
    root: Path, project: Project, code: Code, config: AppConfig, serving: Serving | None
) -> None:
    """A folder without a project is an error that says so."""
    if code.modules or code.faults or config.command or config.entrypoint or serving:
        return
    what = "is empty" if not project.files else "holds no Python code"
    raise ProjectError(
        f"there is no project here: the folder {what}",
        where=str(root),
        hint="Go to the project's folder, or name it: `dockyard build FOLDER`.",
    )


def _workdir(
    config: AppConfig, origin: ConfigOrigin, dockerfile: Dockerfile | None
) -> Decision[str]:
    if "workdir" in config.model_fields_set:
        return Decision(value=config.workdir, why="as configured", where=origin.where("workdir"))
    said = dockerfile.workdir if dockerfile else None
    if dockerfile and said and said.value.startswith("/") and ".." not in said.value:
        path = posixpath.normpath(said.value)
        if not is_reserved(path):
            where = f"{dockerfile.name}:{said.line}"
            return Decision(value=path, why="the Dockerfile has it", where=where)
    return Decision(value=config.workdir, why="the default")


def _environment(
    root: Path, config: AppConfig, origin: ConfigOrigin, dockerfile: Dockerfile | None
) -> dict[str, Decision[str]]:
    """Variables of the Dockerfile, env files and the configuration, the later winning."""
    from dockyard.app.envfile import read_env_file

    found: dict[str, Decision[str]] = {}
    for name, said in (dockerfile.env if dockerfile else {}).items():
        where = f"{dockerfile.name if dockerfile else ''}:{said.line}"
        found[name] = Decision(value=said.value, why="the Dockerfile has it", where=where)
    for file in config.env_file:
        for name, value in read_env_file(root / file, where=file).items():
            found[name] = Decision(value=value, why="as configured", where=file)
    for name, value in config.env.items():
        where = origin.where("env", name)
        found[name] = Decision(value=value, why="as configured", where=where)
    return found


def _name(
    root: Path, config: AppConfig, origin: ConfigOrigin, documents: Documents
) -> Decision[str]:
    if config.name is not None:
        return Decision(value=config.name, why="as configured", where=origin.where("name"))
    said = (documents.project or {}).get("name")
    if isinstance(said, str) and (name := _image_name(said)):
        where = documents.project_where("name")
        return Decision(value=name, why="the project's name", where=where)
    return Decision(value=_image_name(root.name) or "app", why="the folder's name")


def _image_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    try:
        return image_name(name)
    except ValueError:
        return ""


def _ports(
    config: AppConfig,
    origin: ConfigOrigin,
    dockerfile: Dockerfile | None,
    start: Start,
    code: Code,
) -> Decision[tuple[Port, ...]]:
    if config.ports:
        return Decision(value=config.ports, why="as configured", where=origin.where("ports"))
    modules = code.reachable(start.module) if start.module else []
    said = port_of_call(modules)
    if start.port is not None:
        if said is not None and said.value == start.port:
            return Decision(value=(Port(start.port),), why=said.why, where=said.where)
        why = f"{start.server or 'the command'} listens there"
        return Decision(value=(Port(start.port),), why=why, where=start.where)
    if said is not None and (start.server or any(module.calls for module in modules)):
        return Decision(value=(Port(said.value),), why=said.why, where=said.where)
    exposed = _exposed(dockerfile)
    if exposed is not None:
        return exposed
    if said is not None:
        return Decision(value=(Port(said.value),), why=said.why, where=said.where)
    from dockyard.app.detect.serve import DEFAULT_PORTS

    calls = [call for module in modules for call in module.calls]
    server = start.server or (calls[0].server if calls and not calls[0].port_given else "")
    if server in DEFAULT_PORTS:
        why = f"{server}'s default"
        return Decision(value=(Port(DEFAULT_PORTS[server]),), why=why, where=start.where)
    return Decision(value=(), why="nothing that listens was found")


def _exposed(dockerfile: Dockerfile | None) -> Decision[tuple[Port, ...]] | None:
    from dockyard.app.values import port

    found = []
    for said in dockerfile.ports if dockerfile else ():
        try:
            found.append((port(said.value), said.line))
        except ValueError:
            continue
    if not found or dockerfile is None:
        return None
    value = tuple(dict.fromkeys(number for number, _ in found))
    where = f"{dockerfile.name}:{found[0][1]}"
    return Decision(value=value, why="the Dockerfile exposes it", where=where)


def _health(
    config: AppConfig,
    origin: ConfigOrigin,
    dockerfile: Dockerfile | None,
    start: Start,
    ports: Decision[tuple[Port, ...]],
    code: Code,
) -> Decision[HealthCheck | None]:
    said = config.healthcheck
    where = origin.where("healthcheck")
    if said is not None and not said.enabled:
        return Decision(value=None, why="as configured", where=where)
    times = HealthCheck(kind="tcp")
    if said is not None:
        times = replace(
            times,
            interval=said.interval,
            timeout=said.timeout,
            start_period=said.start_period,
            retries=said.retries,
        )
    if said is not None and said.command:
        check = replace(times, kind="command", command=said.command)
        return Decision(value=check, why="as configured", where=where)
    tcp = [port.number for port in ports.value if port.protocol == "tcp"]
    number = said.port.number if said is not None and said.port else (tcp[0] if tcp else None)
    if number is None:
        if said is not None and said.path:
            raise ProjectError(
                "there is a health check's path but no port to ask",
                where=where or None,
                hint="Set `ports` in dockyard.toml.",
            )
        return Decision(value=None, why="there is no port to ask")
    if said is not None and said.path:
        check = replace(times, kind="http", port=number, path=said.path)
        return Decision(value=check, why="as configured", where=where)
    modules = code.reachable(start.module) if start.module else []
    route = health_route(modules)
    if route is None and dockerfile is not None and dockerfile.health is not None:
        place = f"{dockerfile.name}:{dockerfile.health.line}"
        route = Decision(value=dockerfile.health.value, why="the Dockerfile asks it", where=place)
    from dockyard.app.detect.serving import HEALTH, SERVER

    if start.server == SERVER:
        route = Decision(value=HEALTH, why="Dockyard's server has it", where="")
    if route is None and start.server == "streamlit":
        route = Decision(value="/_stcore/health", why="Streamlit has it", where="")
    if route is not None:
        check = replace(times, kind="http", port=number, path=route.value)
        return Decision(value=check, why=route.why, where=route.where)
    if listens_early(start.server, (*start.entrypoint, *start.command)):
        why = f"no route for health was found, and {start.server} listens before the app is loaded"
        return Decision(value=replace(times, kind="answer", port=number), why=why)
    check = replace(times, port=number)
    return Decision(value=check, why="no route for health was found, so a connection must do")


def _missing_variables(modules: Sequence[object], variables: Mapping[str, str]) -> list[str]:
    from dockyard.app.detect.facts import Module

    found: dict[str, str] = {}
    for module in modules:
        if isinstance(module, Module):
            for fact in module.required:
                if fact.text not in variables and fact.text not in ("PATH", "HOME", "HOSTNAME"):
                    found.setdefault(fact.text, f"{module.path}:{fact.line}")
    return [
        f"{where} needs the variable {name}, which isn't set: `env` in dockyard.toml, or -e at run"
        for name, where in found.items()
    ]


def _apt_advice(config: AppConfig, dockerfile: Dockerfile | None) -> list[str]:
    """What a Dockerfile installs with apt isn't installed by itself: say how."""
    tools = {"build-essential", "gcc", "g++", "git", "curl", "wget", "cmake", "make", "vim", "pip"}
    tools |= {"procps", "libgomp1", "libstdc++6", "zlib1g", "tzdata"}  # The base has them.
    wanted = [said for said in (dockerfile.apt if dockerfile else ()) if said.value not in tools]
    names = [said.value for said in wanted if said.value not in config.apt]
    names = [name for name in dict.fromkeys(names) if not name.startswith(("python3", "ca-cert"))]
    if not names or config.apt or dockerfile is None:
        return []
    listed = ", ".join(f'"{name}"' for name in names)
    where = f"{dockerfile.name}:{wanted[0].line}"
    return [f"{where} installs Debian packages; to have them: apt = [{listed}] in dockyard.toml"]


def _line(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)


def _health_text(check: HealthCheck | None) -> str:
    if check is None:
        return "none"
    if check.kind == "command":
        return _line(check.command)
    if check.kind == "answer":
        return f"any answer of :{check.port}"
    return f"GET :{check.port}{check.path}" if check.kind == "http" else f"connect to :{check.port}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
