"""DY4: who the container runs as, how it starts and stops, whether anyone asks for its health."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from typing import TYPE_CHECKING

from dockyard.app.values import shell_syntax
from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import Cost, Edit, hit
from dockyard.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.dockerfile.stages import Step
    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import DockerfileView, Subject

_ROOT = frozenset({"", "root", "0", "root:root", "0:0"})
_CACHES = frozenset(
    {
        *("HF_HOME", "HF_HUB_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"),
        *("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "KERAS_HOME", "TFHUB_CACHE_DIR", "NLTK_DATA"),
        *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "SENTENCE_TRANSFORMERS_HOME"),
    }
)
_USER = "RUN useradd --create-home --uid 10001 app\nUSER app\n"


@rule(
    "DY401",
    "runs-as-root",
    "The app runs as root",
    cost="Whoever breaks the app is root in the container, and one kernel bug away from the host.",
    why="""A container without USER runs as root. An app that serves a model needs no privilege;
    give it a user of its own.""",
    bad='FROM python:3.12-slim\nCMD ["python", "app.py"]\n',
    good="FROM gcr.io/distroless/python3-debian12:nonroot\n",
    fixed=f'FROM python:3.12-slim\n{_USER}CMD ["python", "app.py"]\n',
)
def runs_as_root(subject: Subject) -> Iterator[Hit]:
    """No USER in the last stage, or root."""
    for view in subject.dockerfiles:
        final = view.final
        if final is None or "nonroot" in (final.base() or "") or _starts_nothing(view):
            continue
        if final.user in _ROOT:
            said = final.last("USER")
            line = said.line if said else final.origin.line
            yield hit(
                view.path,
                Place(line),
                "there is no USER" if said is None else f"USER {final.user}",
                fix="Write RUN useradd --create-home --uid 10001 app, and USER app at the end.",
            )


def _starts_nothing(view: DockerfileView) -> bool:
    """Whether the image is a base for others: nothing of the project and no command in it."""
    return not view.commands and not view.copies


@rule(
    "DY402",
    "unmapped-user",
    "The user has no name or no home",
    cost="getpass.getuser() fails (torch.compile calls it), and caches below ~ can't be written.",
    why="""A number in USER needs no entry in /etc/passwd to run, but libraries ask for the name
    and the home. Without them HOME is / and not writable.""",
    bad='FROM python:3.12-slim\nUSER 1000\nCMD ["python", "app.py"]\n',
    good=f'FROM python:3.12-slim\n{_USER}CMD ["python", "app.py"]\n',
    fixed="FROM python:3.12-slim\nRUN useradd --create-home --uid 1000 app\nUSER 1000\n"
    'CMD ["python", "app.py"]\n',
)
def unmapped_user(subject: Subject) -> Iterator[Hit]:
    """A numeric USER that no command adds, or a user made without a home."""
    for view in subject.dockerfiles:
        final = view.final
        step = final.last("USER") if final else None
        if final is None or step is None or final.user in _ROOT:
            continue
        if re.search(r"distroless|nonroot|chainguard", final.base() or ""):
            continue
        adds = [
            ran
            for ran in view.final_ran
            if ran.command.name in ("useradd", "adduser", "addgroup", "groupadd")
        ]
        users = [ran for ran in adds if ran.command.name in ("useradd", "adduser")]
        writes = any(
            "/etc/passwd"
            in " ".join(word.text for word in (*ran.command.words, *ran.command.targets))
            for ran in view.final_ran
        )
        has_home = "HOME" in view.env
        name = final.user.partition(":")[0]
        if name.isdigit() and not users and not writes and not (has_home and "USER" in view.env):
            yield hit(
                view.path,
                Place(step.line, step.instruction.column),
                f"the uid {name} has no name and no home",
                fix=f"Add it: RUN useradd --create-home --uid {name} app.",
            )
        for ran in users:
            options = ran.command.options()
            bare = ran.command.name == "useradd" and not {"-m", "--create-home"} & options
            bare = bare or bool({"-M", "--no-create-home", "-H"} & options)
            if bare and not has_home and name in (*ran.command.texts, *_uids(ran.command.texts)):
                yield hit(
                    view.path,
                    ran.place,
                    f"{name} has no home that it could write to",
                    fix="Add --create-home, or set HOME to a folder that is writable.",
                )


def _uids(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.partition("=")[2] for text in texts if text.startswith("--uid="))


@rule(
    "DY403",
    "shell-form",
    "The command is in shell form",
    cost="Stopping takes 10 s instead of 1 s (measured), and requests in progress are lost.",
    why="""In shell form /bin/sh is the first process and hands no signal on: the app never learns
    that it should stop and is killed after the grace time. The exec form starts the app
    itself.""",
    bad=f"FROM python:3.12-slim\n{_USER}CMD python app.py\n",
    good=f"FROM python:3.12-slim\n{_USER}CMD exec gunicorn --bind :$PORT app:app\n",
    fixed=f'FROM python:3.12-slim\n{_USER}CMD ["python", "app.py"]\n',
)
def shell_form(subject: Subject) -> Iterator[Hit]:
    """CMD or ENTRYPOINT without brackets, unless it says exec."""
    for view in subject.dockerfiles:
        for keyword in ("CMD", "ENTRYPOINT"):
            step = view.final.last(keyword) if view.final else None
            if step is None or step.instruction.words is not None:
                continue
            rest = step.instruction.rest
            if not rest or rest.startswith("exec ") or step.instruction.line not in _own(view):
                continue
            words = _exec_words(rest)
            shown = json.dumps(words, ensure_ascii=False) if words else ""
            made = step.instruction
            edits: tuple[Edit, ...] = ()
            if words and step.shell is None and made.end_line == made.line:
                line = f"{keyword} {shown}"
                edits = (Edit(file=view.path, first=made.line, last=made.end_line, lines=(line,)),)
            yield hit(
                view.path,
                Place(made.line, made.column),
                f"{keyword} {rest[:60]}: a shell is the first process and passes no signals on",
                cost=Cost(text="stopping takes 10 s instead of 1 s", seconds=9),
                fix=f"Write {keyword} {shown}." if words else "Write exec before the command.",
                edits=edits,
            )


def _own(view: DockerfileView) -> set[int]:
    return {step.line for step in view.final_steps}


def _exec_words(rest: str) -> list[str]:
    """The words of a command that needs no shell; none when it needs one."""
    if shell_syntax(rest) is not None:
        return []
    try:
        return shlex.split(rest)
    except ValueError:
        return []


@rule(
    "DY404",
    "no-healthcheck",
    "Nobody can tell whether the app works",
    severity="info",
    cost="A hung process counts as running, and traffic goes to it while the model still loads.",
    why="""A health check is what an engine, Compose and Swarm go by when they restart, update and
    wait. (Kubernetes has probes of its own.)""",
    bad=f'FROM python:3.12-slim\nEXPOSE 8000\n{_USER}CMD ["python", "app.py"]\n',
    good={
        "Dockerfile": f'FROM python:3.12-slim\nEXPOSE 8000\n{_USER}CMD ["python", "app.py"]\n',
        "compose.yaml": "services:\n  app:\n    build: .\n    healthcheck:\n"
        "      test: [CMD, true]\n      start_period: 60s\n",
    },
    fixed=f"FROM python:3.12-slim\nEXPOSE 8000\n{_USER}"
    "HEALTHCHECK --start-period=120s CMD python -c 'import urllib.request as u; "
    'u.urlopen("http://127.0.0.1:8000/health")\'\nCMD ["python", "app.py"]\n',
)
def no_healthcheck(subject: Subject) -> Iterator[Hit]:
    """A port without a HEALTHCHECK in the Dockerfile or in Compose."""
    checked = any("healthcheck" in service.settings for _, service in subject.built_services())
    for view in subject.dockerfiles:
        final = view.final
        if final is None or checked or final.last("HEALTHCHECK") is not None:
            continue
        exposed = final.last("EXPOSE")
        if exposed is not None:
            yield hit(
                view.path,
                Place(exposed.line, exposed.instruction.column),
                "a port, and no HEALTHCHECK",
                fix="Write HEALTHCHECK --start-period=120s CMD …, which asks the app itself.",
            )


@rule(
    "DY405",
    "no-start-period",
    "The health check gives the model no time to load",
    cost="Swarm and Compose restart the container before the model is loaded, again and again.",
    why="""Without a start period, failures count from the first second: three of them, 30 s apart,
    and the container is unhealthy. Loading a model takes longer than that.""",
    bad="FROM python:3.12-slim\nHEALTHCHECK CMD curl -f http://localhost:8000/health\n",
    good="FROM python:3.12-slim\nHEALTHCHECK NONE\n",
    fixed="FROM python:3.12-slim\n"
    "HEALTHCHECK --start-period=120s CMD curl -f http://localhost:8000/health\n",
)
def no_start_period(subject: Subject) -> Iterator[Hit]:
    """HEALTHCHECK CMD without --start-period, and the same in Compose."""
    for view in subject.dockerfiles:
        step = view.final.last("HEALTHCHECK") if view.final else None
        if step is not None and not step.instruction.rest.upper().startswith("NONE"):
            made = step.instruction
            if made.flag("start-period") is None:
                place = Place(made.line, made.column)
                yield hit(
                    view.path,
                    place,
                    "failures count from the first second, while the model loads",
                    fix="Add --start-period=120s, or what loading takes.",
                    edits=_with_start_period(view, step),
                )
    for file, service in subject.built_services():
        check = service.get("healthcheck")
        if isinstance(check, dict) and "test" in check and "start_period" not in check:
            yield hit(
                file.path,
                service.place("healthcheck"),
                f"{service.name}: failures count from the first second, while the model loads",
                fix="Add start_period: 120s.",
            )


def _with_start_period(view: DockerfileView, step: Step) -> tuple[Edit, ...]:
    made = step.instruction
    line = view.document.lines[made.line - 1]
    at = made.column - 1 + len("HEALTHCHECK")
    if line[made.column - 1 : at].upper() != "HEALTHCHECK":
        return ()
    changed = f"{line[:at]} --start-period=120s{line[at:]}"
    return (Edit(file=view.path, first=made.line, last=made.line, lines=(changed,)),)


@rule(
    "DY406",
    "cache-unwritable",
    "A cache is where the user can't write",
    cost="The start fails, or downloads and compiles again each time.",
    why="""Hugging Face, torch, matplotlib and numba write caches at run time. A folder that root
    made isn't writable for the image's user.""",
    bad="FROM python:3.12-slim\nENV HF_HOME=/models\nRUN useradd -m app && mkdir /models\n"
    "USER app\n"
    'CMD ["python", "app.py"]\n',
    good="FROM python:3.12-slim\nENV HF_HOME=/tmp/hf\nRUN useradd -m app\nUSER app\n"
    'CMD ["python", "app.py"]\n',
    fixed="FROM python:3.12-slim\nENV HF_HOME=/models\nRUN useradd -m app \\\n"
    ' && mkdir /models && chown app /models\nUSER app\nCMD ["python", "app.py"]\n',
)
def cache_unwritable(subject: Subject) -> Iterator[Hit]:
    """A cache variable with a folder that nothing gives to the user."""
    for view in subject.dockerfiles:
        final = view.final
        if final is None or final.user in _ROOT:
            continue
        name = final.user.partition(":")[0]
        given = ["/tmp", "/var/tmp", "/dev/shm", f"/home/{name}"]  # noqa: S108 - in an image
        home = view.env.get("HOME")
        given += [home] if home else []
        for ran in view.final_ran:
            if ran.command.name in ("chown", "chmod", "install"):
                given += [
                    posixpath.normpath(posixpath.join(ran.step.workdir, word.text))
                    for word in ran.command.operands()
                ]
            if ran.step.user not in _ROOT and ran.command.name == "mkdir":
                given += [word.text for word in ran.command.operands()]
        for step in view.final_steps:
            if step.keyword == "VOLUME":
                given += list(step.instruction.words or step.instruction.rest.split())
            elif step.keyword in ("COPY", "ADD") and step.instruction.flag("chown"):
                words = step.instruction.words or tuple(step.instruction.rest.split())
                given.append(posixpath.normpath(posixpath.join(step.workdir, words[-1])))
        for variable in sorted(_CACHES & set(view.env)):
            path = view.env[variable]
            if not path.startswith("/") or re.match(r"/home/\w+", path):
                continue
            if any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in given):
                continue
            yield hit(
                view.path,
                view.env_place(variable),
                f"{variable}={path}, which {final.user} can't write",
                fix=f"Give it to the user (chown {name} {path}), or take /tmp.",
            )


@rule(
    "DY411",
    "one-platform",
    "The image is for one platform only",
    severity="info",
    cost="Emulated, ten times slower, on arm64: Apple's machines, Graviton, Jetson.",
    why="""FROM --platform=linux/amd64 pins the platform for every builder. Without it the image is
    for the machine that builds, or for what --platform of the build says.""",
    bad="FROM --platform=linux/amd64 python:3.12-slim\n",
    good="FROM --platform=$BUILDPLATFORM python:3.12-slim AS build\nFROM python:3.12-slim\n",
    fixed="FROM python:3.12-slim\n",
)
def one_platform(subject: Subject) -> Iterator[Hit]:
    """A constant --platform in FROM."""
    for view in subject.dockerfiles:
        for stage in view.needed:
            if (stage.platform or "").startswith("linux/"):
                yield hit(
                    view.path,
                    Place(stage.origin.line),
                    f"always {stage.platform}",
                    fix="Leave --platform out, and give it to the build.",
                )
