"""What the container starts.

Rules, the first that applies: the configuration; a Dockerfile's CMD and ENTRYPOINT; a Procfile's
web line; the one web app in the code; Streamlit; [project.scripts]; a package's __main__; a script.
Among several, names that say so (app.py, main.py, serve.py…) and nearness to the root decide; where
two are equally likely it is an error that names them, since a guess would start the wrong one.
"""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING, Literal

from dockyard.app.detect.listen import port_in_command, port_of_call
from dockyard.app.detect.serve import (
    DEFAULT_PORTS,
    Start,
    script_command,
    script_warnings,
    start_app,
    title,
)
from dockyard.app.values import shell_syntax
from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dockyard.app.config import AppConfig, ConfigOrigin
    from dockyard.app.detect.dependencies import DependencySource, Documents
    from dockyard.app.detect.dockerfile import Dockerfile
    from dockyard.app.detect.facts import Code, Module, WebApp
    from dockyard.app.ignore import Project

_STEMS = (
    *("app", "main", "serve", "server", "api", "wsgi", "asgi", "application", "service"),
    *("web", "webapp", "run", "predict", "inference", "demo", "index", "streamlit_app", "__init__"),
)
_OBJECTS = ("app", "application", "api", "server", "demo", "asgi", "wsgi", "iface", "interface")
_TRAINING = re.compile(r"(?:^|_)(?:train|training|fit|finetune|evaluate|eval|test|export|convert)")
_SHELLS = ("bash", "sh", "/bin/bash", "/bin/sh")
_NO_START = frozenset({"bash", "sh", "/bin/bash", "/bin/sh", "python", "python3", "ipython"})
_HOW = 'Say which: `command = ["python", "app.py"]` in dockyard.toml.'


class Evidence:
    """Everything that deciding the start looks at."""

    def __init__(
        self,
        *,
        folder: Path,
        project: Project,
        code: Code,
        config: AppConfig,
        origin: ConfigOrigin,
        documents: Documents,
        dockerfile: Dockerfile | None,
        source: DependencySource,
        variables: Mapping[str, str],
        workdir: str,
    ) -> None:
        self.folder = folder
        self.paths = project.paths()
        self.executable = frozenset(file.path for file in project.files if file.executable)
        self.code = code
        self.config = config
        self.origin = origin
        self.documents = documents
        self.dockerfile = dockerfile
        self.source = source
        self.variables = variables
        self.workdir = workdir
        self.warnings: list[str] = []


def detect_start(evidence: Evidence) -> Start:
    """Decide what the container starts; raises ProjectError when that can't be told."""
    for decide in (_configured, _from_dockerfile, _from_procfile, _from_app, _from_streamlit):
        start = decide(evidence)
        if start is not None:
            return start
    for decide in (_from_scripts, _from_package, _from_script):
        start = decide(evidence)
        if start is not None:
            return start
    raise _nothing(evidence)


def what_starts(
    folder: Path, config: AppConfig, code: Code, documents: Documents, dockerfile: Dockerfile | None
) -> Literal["app", "script", ""]:
    """Whether the project says what to start or has a web app, or merely something that runs."""
    said = dockerfile is not None and bool(dockerfile.command or dockerfile.entrypoint)
    if config.command or config.entrypoint or said or (folder / "Procfile").is_file():
        return "app"
    modules = [
        module
        for module in code.modules.values()
        if not _TRAINING.search(module.path.rpartition("/")[2])
    ]
    if any(module.apps or module.streamlit for module in modules):
        return "app"
    runs = any(_may_start(module) or module.path.endswith("__main__.py") for module in modules)
    return "script" if runs or (documents.project or {}).get("scripts") else ""


def _may_start(module: Module) -> bool:
    """Whether a file has a main block, or a usual name and does something."""
    does = module.main_line or module.calls or (module.runs and _rank(module)[0] == 0)
    return bool(does) and module.depth <= 1


def _configured(evidence: Evidence) -> Start | None:
    config = evidence.config
    if config.command is None and config.entrypoint is None:
        return None
    command, entrypoint = config.command or (), config.entrypoint or ()
    key = "command" if config.command is not None else "entrypoint"
    return _known(
        evidence, command, entrypoint, why="as configured", where=evidence.origin.where(key)
    )


def _from_dockerfile(evidence: Evidence) -> Start | None:
    said = evidence.dockerfile
    if said is None or (said.command is None and said.entrypoint is None):
        return None
    command, line = said.command or ((), 0)
    entrypoint, entry_line = said.entrypoint or ((), 0)
    words = (*entrypoint, *command)
    place = f"{said.name}:{line or entry_line}"
    problem = _unusable(evidence, words)
    if problem is not None:
        evidence.warnings.append(f"{place} isn't followed: {problem}")
        return None
    words = tuple("python" if word == "python3" else word for word in command)
    entry = tuple("python" if word == "python3" else word for word in entrypoint)
    script = (entry or words)[0].removeprefix(evidence.workdir.rstrip("/") + "/").removeprefix("./")
    if script.endswith(".sh") and script not in evidence.executable:
        # The Dockerfile may have made it executable in a step that isn't run here.
        entry, words = (("sh", *entry), words) if entry else ((), ("sh", *words))
    return _known(evidence, words, entry, why="the Dockerfile starts it so", where=place)


def _from_procfile(evidence: Evidence) -> Start | None:
    path = evidence.folder / "Procfile"
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return None
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"web:\s*(.+)", line.strip())
        if not match:
            continue
        port = evidence.variables.get("PORT", "8000")
        written = re.sub(r"\$\{?PORT\}?(?!\w)", port, match[1].strip())
        where = f"Procfile:{number}"
        words: tuple[str, ...] = ("sh", "-c", "exec " + written)
        if shell_syntax(written) is None:
            try:
                words = tuple(shlex.split(written))
            except ValueError:
                continue
        problem = _unusable(evidence, words)
        if problem is not None:
            evidence.warnings.append(f"{where} isn't followed: {problem}")
            return None
        return _known(evidence, words, (), why="the Procfile's web process", where=where)
    return None


def _known(
    evidence: Evidence,
    command: tuple[str, ...],
    entrypoint: tuple[str, ...],
    *,
    why: str,
    where: str,
) -> Start:
    """A start whose words are given; the file that it runs is looked for."""
    words = (*entrypoint, *command)
    words = (*words, *_words_of_script(evidence, words))
    module = _module_of(evidence, words)
    found = evidence.code.modules.get(module or "")
    warnings = script_warnings(found) if found and "python" in words[0] else ()
    return Start(
        command=command,
        entrypoint=entrypoint,
        why=why,
        where=where,
        module=module,
        port=port_in_command(words, evidence.variables),
        server=_server_of(words),
        warnings=warnings,
    )


def _words_of_script(evidence: Evidence, words: Sequence[str]) -> list[str]:
    """The words of what a shell is given: a line, or a script of the project's."""
    if len(words) >= 3 and words[0] in _SHELLS and words[1] == "-c":
        return words[2].split()
    inner = evidence.workdir.rstrip("/") + "/"
    for word in words[:3]:
        path = word.removeprefix(inner).removeprefix("./")
        if path.endswith(".sh") and path in evidence.paths:
            try:
                text = (evidence.folder / path).read_text(encoding="utf-8", errors="replace")
            except OSError:
                return []
            lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
            return " ".join(lines).replace("\\", " ").split()[:2000]
    return []


def _server_of(words: Sequence[str]) -> str:
    names = [word.rpartition("/")[2] for word in words]
    known = ("uvicorn", "gunicorn", "hypercorn", "streamlit", "flask", "waitress-serve", "gradio")
    return next((name.removesuffix("-serve") for name in names if name in known), "")


def _module_of(evidence: Evidence, words: Sequence[str]) -> str | None:
    """The project's file that a command runs or imports."""
    inner = evidence.workdir.rstrip("/") + "/"
    flat = words
    if len(words) >= 3 and words[0] in _SHELLS and words[1] == "-c":
        flat = words[2].replace(";", " ").split()
    for index, word in enumerate(flat):
        path = word.removeprefix(inner).removeprefix("./")
        if path in evidence.paths and path.endswith(".py"):
            return path
        dotted = word.partition(":")[0].replace(".", "/")
        is_target = ":" in word and re.fullmatch(r"[\w.]+:[\w.()]+", word) is not None
        if is_target or (index and flat[index - 1] == "-m"):
            for root in ("", "src/"):
                for end in (".py", "/__main__.py", "/__init__.py"):
                    if root + dotted + end in evidence.paths:
                        return root + dotted + end
    return None


def _unusable(evidence: Evidence, words: tuple[str, ...]) -> str | None:
    """Why a command that was meant for another image can't be used in this one."""
    name = words[0]
    if len(words) == 1 and name in _NO_START:
        return f"{name} alone starts no app"
    if name in ("sleep", "tail", "jupyter", "jupyter-lab", "conda", "nvidia-smi", "/bin/true"):
        return f"{name} starts no app"
    if name in _SHELLS and not evidence.config.shell:
        return "it needs a shell, and `shell` is false"
    inner = evidence.workdir.rstrip("/") + "/"
    for word in words:
        path = word.removeprefix(inner).removeprefix("./")
        is_file = path.endswith((".py", ".sh")) and not path.startswith("-") and " " not in path
        if is_file and path not in evidence.paths:
            return f"{word} isn't among the project's files"
    target = next((word for word in words[1:] if re.fullmatch(r"[\w.]+:[\w.]+(?:\(\))?", word)), "")
    if target and not target[0].isdigit() and _server_of(words):
        top = target.partition(":")[0].split(".")[0]
        roots = {path.removeprefix("src/").split("/")[0] for path in evidence.paths}
        if top not in roots and top + ".py" not in roots:
            return f"{target} isn't among the project's files"
    return None


def _from_app(evidence: Evidence) -> Start | None:
    """The one web app in the code."""
    found = [
        (module, app)
        for module in evidence.code.modules.values()
        for app in module.apps
        if not _TRAINING.search(module.path.rpartition("/")[2])
    ]
    if not found:
        return None
    module, app = _choose_app(evidence, _one_django(evidence, found))
    launched = any(call.runs for call in module.calls)
    if app.kind == "gradio" and not launched and (evidence.documents.project or {}).get("scripts"):
        return None  # Only that program launches it.
    _refuse_streamlit_beside(evidence, module, app)
    # A file apart may start it by its name: uvicorn.run("app.main:app", port=9000).
    starters = [
        other
        for other in evidence.code.modules.values()
        if any(call.target.partition(":")[0] == module.name for call in other.calls if call.target)
    ]
    said = port_of_call([module, *starters, *evidence.code.reachable(module.path)[1:]])
    configured = evidence.config.ports[0].number if evidence.config.ports else None
    port = configured or (said.value if said else _exposed(evidence))
    return start_app(module, app, evidence.source, port=port, workdir=evidence.workdir)


def _one_django(
    evidence: Evidence, found: list[tuple[Module, WebApp]]
) -> list[tuple[Module, WebApp]]:
    """Django's wsgi.py and asgi.py are the same app: the server that is there decides."""
    if not any(app.kind == "django" for _, app in found):
        return found
    if {"gunicorn", "waitress"} & evidence.source.names() or not any(
        module.path.endswith("asgi.py") for module, _ in found
    ):
        return [item for item in found if not item[0].path.endswith("asgi.py")]
    return [item for item in found if item[1].kind != "django"]


def _refuse_streamlit_beside(evidence: Evidence, module: Module, app: WebApp) -> None:
    """An API and a Streamlit page side by side are two apps."""
    reached = {inner.path for inner in evidence.code.reachable(module.path)}
    for other in evidence.code.modules.values():
        is_page = "pages" in other.path.split("/")[:-1] or other.path in reached
        if other.streamlit and not is_page and _rank(other)[:2] <= _rank(module)[:2]:
            raise ProjectError(
                "there are several web apps, and nothing says which one to start:\n"
                f"  {module.path}:{app.line}: {title(app)}\n"
                f"  {other.path}:{other.streamlit}: Streamlit",
                hint=_HOW,
            )


def _choose_app(evidence: Evidence, found: list[tuple[Module, WebApp]]) -> tuple[Module, WebApp]:
    objects = [(module, app) for module, app in found if not app.factory]
    found = objects or found
    # An app that another one's file imports is a part of it, or is what it re-exports.
    imported = {
        path
        for module, _ in found
        for other in evidence.code.reachable(module.path)[1:]
        for path in [other.path]
        if module.path not in {inner.path for inner in evidence.code.reachable(path)[1:]}
    }
    roots = [(module, app) for module, app in found if module.path not in imported] or found
    ranked = sorted(roots, key=lambda item: _rank(item[0]))
    best = [item for item in ranked if _rank(item[0])[:2] == _rank(ranked[0][0])[:2]]
    files = {module.path for module, _ in best}
    if len(files) == 1:
        named = sorted(best, key=lambda item: _object_rank(item[1]))
        if len(named) == 1 or _object_rank(named[0][1]) < _object_rank(named[1][1]):
            return named[0]
        best = named
    lines = "\n".join(f"  {module.path}:{app.line}: {title(app)}" for module, app in best)
    raise ProjectError(
        f"there are several web apps, and nothing says which one to start:\n{lines}", hint=_HOW
    )


def _rank(module: Module) -> tuple[int, int, int]:
    """Conventional names first, then the nearest to the root; the name's own rank last."""
    stem = module.path.rpartition("/")[2].removesuffix(".py")
    usual = stem in _STEMS
    return (0 if usual else 1, module.depth, _STEMS.index(stem) if usual else 0)


def _object_rank(app: WebApp) -> int:
    return _OBJECTS.index(app.name) if app.name in _OBJECTS else len(_OBJECTS)


def _exposed(evidence: Evidence) -> int | None:
    """The first TCP port that a Dockerfile exposes."""
    for said in evidence.dockerfile.ports if evidence.dockerfile else ():
        number, _, protocol = said.value.partition("/")
        if number.isdecimal() and protocol in ("", "tcp") and 1 <= int(number) <= 65535:
            return int(number)
    return None


def _from_streamlit(evidence: Evidence) -> Start | None:
    found = [
        module
        for module in evidence.code.modules.values()
        if module.streamlit and "pages" not in module.path.split("/")[:-1]
    ]
    if not found:
        return None
    imported = {
        path
        for module in found
        for path in {inner.path for inner in evidence.code.reachable(module.path)[1:]}
    }
    roots = [module for module in found if module.path not in imported] or found
    order = ("streamlit_app", "app", "main", "Home", "home", "Hello")

    def rank(module: Module) -> tuple[int, int]:
        stem = module.path.rpartition("/")[2].removesuffix(".py")
        return (module.depth, order.index(stem) if stem in order else len(order))

    ranked = sorted(roots, key=rank)
    if len(ranked) > 1 and rank(ranked[0]) == rank(ranked[1]):
        raise _several(ranked, "use Streamlit")
    module = ranked[0]
    ports = evidence.config.ports
    port = ports[0].number if ports else _exposed(evidence) or DEFAULT_PORTS["streamlit"]
    return Start(
        command=(
            *("streamlit", "run", module.path, "--server.address", "0.0.0.0"),  # noqa: S104
            *("--server.port", str(port), "--server.headless", "true"),
        ),
        why=f"{module.path} is a Streamlit app",
        where=f"{module.path}:{module.streamlit}",
        module=module.path,
        port=port,
        server="streamlit",
        env={"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"},
    )


def _from_scripts(evidence: Evidence) -> Start | None:
    """[project.scripts]: run by importing the function, since the project isn't installed."""
    scripts = (evidence.documents.project or {}).get("scripts")
    if not isinstance(scripts, dict) or not scripts:
        return None
    project_name = str((evidence.documents.project or {}).get("name", ""))
    preferred = [name for name in scripts if name in ("serve", "start", "app", project_name)]
    chosen = preferred[0] if len(preferred) == 1 else next(iter(scripts))
    if len(scripts) > 1 and len(preferred) != 1:
        names = "\n".join(f"  {name} = {scripts[name]}" for name in scripts)
        raise ProjectError(
            f"[project.scripts] has several programs, and nothing says which to start:\n{names}",
            where=evidence.documents.project_where("scripts"),
            hint=_HOW,
        )
    match = re.fullmatch(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*", str(scripts[chosen]))
    if match is None:
        return None
    module = _module_of(evidence, ("-m", match[1]))
    if module is None:
        return None
    function = match[2].split(".")[0]
    code = f"import sys; from {match[1]} import {function}; sys.exit({match[2]}())"
    src = {"PYTHONPATH": f"{evidence.workdir}/src"} if module.startswith("src/") else {}
    return Start(
        command=("python", "-c", code),
        why=f"[project.scripts] has {chosen!r}",
        where=evidence.documents.project_where("scripts", chosen),
        module=module,
        env=src,
        warnings=_warnings_of(evidence, module),
    )


def _from_package(evidence: Evidence) -> Start | None:
    found = [
        module
        for module in evidence.code.modules.values()
        if module.path.endswith("__main__.py") and module.depth <= 1
    ]
    found.sort(key=lambda module: module.depth)
    if not found:
        return None
    if len(found) > 1 and found[0].depth == found[1].depth:
        raise _several(found, "can be run with `python -m`")
    module = found[0]
    command, env = script_command(module, evidence.workdir)
    return Start(
        command=command,
        why=f"{module.path} is what running the package runs",
        where=f"{module.path}:1",
        module=module.path,
        env=env,
        server=_called(module),
        port=_called_port(module),
        warnings=_warnings_of(evidence, module.path),
    )


def _from_script(evidence: Evidence) -> Start | None:
    """A file with a main block, or one with a usual name that does something."""
    candidates = [
        module
        for module in evidence.code.modules.values()
        if _may_start(module) and not _TRAINING.search(module.path.rpartition("/")[2])
    ]
    if not candidates:
        return None
    serving = [module for module in candidates if module.calls] or candidates
    ranked = sorted(serving, key=_rank)
    # Names have an order here: app.py beside main.py is the usual split of app and helper.
    if len(ranked) > 1 and _rank(ranked[0]) == _rank(ranked[1]):
        raise _several(
            [module for module in ranked if _rank(module) == _rank(ranked[0])],
            "can be started",
        )
    module = ranked[0]
    command, env = script_command(module, evidence.workdir)
    what = f"has a main block (line {module.main_line})" if module.main_line else "does something"
    return Start(
        command=command,
        why=f"{module.path} {what}",
        where=f"{module.path}:{module.main_line or 1}",
        module=module.path,
        env=env,
        server=_called(module),
        port=_called_port(module),
        warnings=_warnings_of(evidence, module.path),
    )


def _called(module: Module) -> str:
    return module.calls[0].server if module.calls else ""


def _called_port(module: Module) -> int | None:
    if not module.calls:
        return None
    call = module.calls[0]
    return call.port or (None if call.port_given else DEFAULT_PORTS.get(call.server))


def _warnings_of(evidence: Evidence, path: str) -> tuple[str, ...]:
    module = evidence.code.modules.get(path)
    return script_warnings(module) if module else ()


def _several(modules: Sequence[Module], what: str) -> ProjectError:
    lines = "\n".join(f"  {module.path}" for module in modules)
    return ProjectError(
        f"several files {what}, and nothing says which one to start:\n{lines}", hint=_HOW
    )


def _running() -> str:
    return f"Python {sys.version_info[0]}.{sys.version_info[1]}"


def _nothing(evidence: Evidence) -> ProjectError:
    faults = evidence.code.faults
    if faults:
        return ProjectError(
            f"isn't valid Python (as {_running()} reads it), and nothing else here can be started",
            where=faults[0].text,
            hint="Correct it, or say what to start: `command` in dockyard.toml.",
        )
    training = [
        module.path
        for module in evidence.code.modules.values()
        if _TRAINING.search(module.path.rpartition("/")[2])
    ]
    only = f" ({training[0]} looks like training)" if training else ""
    return ProjectError(
        f"nothing here says what to start{only}",
        where=str(evidence.folder),
        hint="Name the file app.py, main.py or serve.py, or say "
        '`command = ["python", "file.py"]` in dockyard.toml.',
    )
