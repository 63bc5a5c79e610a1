"""DY4: whether what is started is fit for production: servers, workers, threads, mounts."""

from __future__ import annotations

import ast
import re
import shlex
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import Cost, hit, megabytes
from dockyard.lint.rule import Zeros, rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dockyard.lint.code import Call, Module
    from dockyard.lint.compose import Service
    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import Subject

_THREADED = frozenset(
    {"torch", "tensorflow", "onnxruntime", "numpy", "sklearn", "scipy", "xgboost"}
)
_LIMITS = frozenset(
    {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTEROP_THREADS"}
)
_ENOUGH_TO_COUNT = 200_000_000
_FLASK = "from flask import Flask\napp = Flask(__name__)\n"
_START = 'FROM python:3.12-slim\nUSER app\nCMD ["python", "app.py"]\n'


def _started(subject: Subject) -> Iterator[tuple[str, Place, Sequence[str]]]:
    """Every command that starts something: file, place, words."""
    for view in subject.dockerfiles:
        for keyword in ("ENTRYPOINT", "CMD"):
            step = view.final.last(keyword) if view.final else None
            if step is not None:
                rest = step.instruction.rest
                words = step.instruction.words or tuple(rest.split())
                place = Place(step.line, step.instruction.column)
                yield view.path, place, tuple(" ".join(words).split())
    for file, service in subject.services():
        command = service.get("command")
        if isinstance(command, list):
            words = tuple(str(word) for word in command)
            yield file.path, service.place("command"), tuple(" ".join(words).split())
        elif isinstance(command, str):
            try:
                yield file.path, service.place("command"), tuple(shlex.split(command))
            except ValueError:
                continue


def _run_calls(subject: Subject) -> Iterator[tuple[Module, Call]]:
    """The calls of Flask's development server."""
    for module, call in subject.calls():
        flask_app = call.name in ("flask.Flask().run", "dash.Dash().run", "dash.Dash().run_server")
        if flask_app or (call.name == "app.run" and "flask" in module.imports):
            yield module, call


@rule(
    "DY407",
    "development-server",
    "A development server serves in production",
    cost="One request at a time, no limits, no graceful stop.",
    why="""The servers of `flask run`, `app.run()` and `manage.py runserver` say themselves that
    they aren't for production. gunicorn, uvicorn and waitress are.""",
    bad={"Dockerfile": _START, "app.py": _FLASK + "app.run(host='0.0.0.0')\n"},
    good={
        "Dockerfile": 'FROM python:3.12-slim\nUSER app\nCMD ["gunicorn", "app:app"]\n',
        "app.py": _FLASK + "if __name__ == '__main__':\n    app.run()\n",
    },
    fixed={
        "Dockerfile": _START,
        "app.py": _FLASK + "import waitress\nwaitress.serve(app, port=8000)\n",
    },
)
def development_server(subject: Subject) -> Iterator[Hit]:
    """flask run, runserver, or a started file that calls app.run()."""
    advice = "Serve it with gunicorn or waitress (WSGI) or uvicorn (ASGI)."
    for file, place, words in _started(subject):
        said = " ".join(words)
        if re.search(r"\bflask\b.*\brun\b|manage\.py runserver|\bfastapi dev\b", said):
            yield hit(file, place, f"{said[:60]} is for development", fix=advice)
            continue
        started = [word for word in words if word.endswith(".py")]
        if not started or not re.match(r"(\S*/)?python", words[0]):
            continue
        for module, call in _run_calls(subject):
            if module.path == started[0].removeprefix("/app/").removeprefix("./"):
                yield hit(
                    module.path,
                    Place(call.node.lineno, call.node.col_offset + 1),
                    f"{file} starts Flask's development server",
                    fix=advice,
                )


@rule(
    "DY408",
    "debug-in-production",
    "Debugging or the source's mount goes to production",
    severity="error",
    cost="Werkzeug's debugger runs code that a visitor types; reloaders watch all files and double "
    "the memory; a mounted source hides what the image was tested with.",
    why="""What helps while writing (reload, debug pages, the source mounted over the image's) must
    not be in what is shipped. Keep it in compose.override.yaml.""",
    bad='FROM python:3.12-slim\nUSER app\nCMD ["uvicorn", "app:app", "--reload"]\n',
    good={
        "Dockerfile": _START,
        "compose.override.yaml": "services:\n  app:\n    build: .\n    volumes: ['.:/app']\n",
    },
    fixed='FROM python:3.12-slim\nUSER app\nCMD ["uvicorn", "app:app"]\n',
)
def debug_in_production(subject: Subject) -> Iterator[Hit]:
    """--reload, debug variables and arguments, and binds of the project's folder."""
    for file, place, words in _started(subject):
        if _is_override(file):
            continue
        for word in words:
            if word in ("--reload", "--debug", "--debugger"):
                yield hit(file, place, f"{word} is for development", fix=f"Leave {word} out.")
    for view in subject.dockerfiles:
        for name, off in (("FLASK_DEBUG", "0"), ("FLASK_ENV", "production"), ("DJANGO_DEBUG", "0")):
            value = view.env.get(name, off)
            if value.lower() not in (off, "", "false", "0"):
                place = view.env_place(name)
                yield hit(view.path, place, f"{name}={value}", fix=f"Leave {name} out.")
    for module, call in subject.calls():
        server = call.method == "run" and call.name.partition(".")[0] in ("app", "flask", "uvicorn")
        for keyword in ("debug", "reload"):
            if server and call.constant(keyword) is True:
                yield hit(
                    module.path,
                    Place(call.node.lineno, call.node.col_offset + 1),
                    f"{ast.unparse(call.node.func)}({keyword}=True)",
                    fix=f"Take {keyword} from the environment, off by default.",
                )
    for file_, service in subject.built_services():
        if not _is_override(file_.path):
            yield from _mounted_sources(file_.path, service)


def _is_override(path: str) -> bool:
    return bool(re.search(r"override|dev|debug|local|test", path.rpartition("/")[2]))


def _mounted_sources(path: str, service: Service) -> Iterator[Hit]:
    volumes = service.get("volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        source = volume.get("source") if isinstance(volume, dict) else str(volume).partition(":")[0]
        if source in (".", "./", "${PWD}", "$PWD", "./src", "./app"):
            yield hit(
                path,
                service.place("volumes", index),
                f"{service.name}: the source is mounted over what the image holds",
                fix="Move the mount to compose.override.yaml.",
            )


@rule(
    "DY409",
    "workers-times-model",
    "Every worker loads the model",
    cost="The model's memory, times the number of workers.",
    why="""Worker processes share no memory after loading: four workers hold four copies. One
    worker with threads (or --preload, where the model is only read) holds one.""",
    bad={
        "Dockerfile": 'FROM python:3.12-slim\nUSER app\nCMD ["gunicorn", "-w", "4", "app:app"]\n',
        "model.pt": Zeros(120_000_000),
    },
    good={
        "Dockerfile": 'FROM python:3.12-slim\nUSER app\nCMD ["gunicorn", "-w", "4", "app:app"]\n',
        "model.pt": Zeros(1_000_000),
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nUSER app\n"
        'CMD ["gunicorn", "-w", "1", "--threads", "4", "app:app"]\n',
        "model.pt": Zeros(120_000_000),
    },
)
def workers_times_model(subject: Subject) -> Iterator[Hit]:
    """More than one worker, and models whose copies make a difference."""
    size = sum(file.size for file in subject.models)
    for file, place, words in _started(subject):
        said = " ".join(words)
        match = re.search(r"(?:--workers|--web-concurrency|-w)[= ](\d+)", said)
        if match is None or "--preload" in words:
            continue
        workers = int(match[1])
        if workers > 1 and workers * size >= _ENOUGH_TO_COUNT:
            extra = (workers - 1) * size
            yield hit(
                file,
                place,
                f"{workers} workers hold {workers} copies of {megabytes(size)} of models",
                cost=Cost(text=f"{megabytes(extra)} more memory", size=extra),
                fix="Take one worker and threads, or more containers with one worker each.",
            )


@rule(
    "DY410",
    "no-thread-limit",
    "No limit of threads under a limit of processors",
    cost="Two to five times slower: 64 threads take turns on 2 processors.",
    why="""Numeric libraries start a thread per processor of the host, whatever the container's
    quota is. They then wait for each other within it. Set OMP_NUM_THREADS to the quota.""",
    bad={
        "compose.yaml": "services:\n  app:\n    build: .\n    cpus: 2\n",
        "app.py": "import torch\n",
    },
    good={
        "compose.yaml": "services:\n  app:\n    build: .\n    cpus: 2\n",
        "app.py": "import torch\ntorch.set_num_threads(2)\n",
    },
    fixed={
        "compose.yaml": "services:\n  app:\n    build: .\n    cpus: 2\n    environment:\n"
        "      OMP_NUM_THREADS: 2\n",
        "app.py": "import torch\n",
    },
)
def no_thread_limit(subject: Subject) -> Iterator[Hit]:
    """A quota in Compose, a numeric library, and no limit anywhere."""
    if not _THREADED & subject.imports:
        return
    if any(
        call.method in ("set_num_threads", "set_intra_op_parallelism_threads", "threadpool_limits")
        or "intra_op_num_threads" in module.text
        for module, call in subject.calls()
    ):
        return
    in_images = {name for view in subject.dockerfiles for name in view.env}
    for file, service in subject.built_services():
        cpus = service.get("cpus") or service.get("deploy", "resources", "limits", "cpus")
        if not cpus or _LIMITS & (in_images | set(service.environment())):
            continue
        key = ("cpus",) if "cpus" in service.settings else ("deploy", "resources", "limits", "cpus")
        yield hit(
            file.path,
            service.place(*key),
            f"{service.name} has {cpus} processors and a thread for each of the host's",
            fix=f"Set OMP_NUM_THREADS to {cpus}.",
        )
