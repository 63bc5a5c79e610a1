"""Find Compose, run it, and tell what it does and why it fails.

Rules: running a stack is Compose's business; what is here only calls it. `docker compose`,
`docker-compose` v2 and `podman compose` are tried in that order, or what DOCKYARD_COMPOSE names.
Compose's own words are translated at one place, by a table of patterns; what isn't in the table is
passed on as it is.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.errors import StackError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_CANDIDATES = (("docker", "compose"), ("docker-compose",), ("podman", "compose"))
_FIRST_ANSWER = 20  # Seconds; a plugin that hangs isn't one.
_INSTALL = (
    "Install it: Docker's plugin (the package docker-compose-plugin or docker-compose-v2), "
    "or Debian's docker-compose of trixie or newer."
)

# " Container digits-db-1  Healthy": the kind, the name, what happens to it.
_EVENT = re.compile(r"^\s*(?P<kind>Container|Network|Volume|Image)\s+(?P<name>\S+)\s+(?P<what>\w+)")
_PULL = re.compile(r"^\s*(?P<name>\S+)\s+(?P<what>Pulling|Pulled)\s*$")
_NOISE = re.compile(r"^\s*[0-9a-f]{12}\s|^time=.*level=warning|^\s*$")

# What Compose says: what that means, and what to do.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        r"(?:Bind for|listen \w+) (?P<where>[\d.]+:\d+)[^\n]*(?:already allocated|already in use)",
        "port {where} is taken",
        "Stop what holds it, or publish the service elsewhere.",
    ),
    (
        r"(?:pull access denied|denied: requested access)[^\n]*?for (?P<image>[^\s,]+)",
        "the image {image} can't be pulled: there is none, or it needs a login",
        "Log in with `docker login`, or correct `image:`.",
    ),
    (
        r"(?:No such image: |manifest for )(?P<image>\S+)",
        "there is no image {image}",
        "Build it with `dockyard up --build`, or correct `image:`.",
    ),
    (
        r"could not select device driver \"?(?P<driver>[^\s\"]*)",
        "the engine has no GPU to give: it knows no device driver {driver}",
        "Install the NVIDIA container toolkit, or leave `gpus` out.",
    ),
    (
        r"(?:Cannot connect to the Docker daemon|failed to connect to the docker API)",
        "the container engine doesn't answer",
        "Start Docker (systemctl start docker), or name an engine in DOCKER_HOST.",
    ),
    (
        r"container (?P<name>\S+) is unhealthy",
        "{name} is unhealthy",
        "",
    ),
    (
        r"container (?P<name>\S+) exited \((?P<code>\d+)\)",
        "{name} ended with exit code {code}",
        "",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """A Compose that runs here, and the stack that it is asked about.

    command: the program's words; files: the Compose files, absolute; folder: the project's.
    """

    command: tuple[str, ...]
    folder: Path
    files: tuple[Path, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __str__(self) -> str:
        return " ".join(self.command)

    def words(self, *arguments: str, progress: bool = False) -> list[str]:
        """The whole command line."""
        files = [word for path in self.files for word in ("-f", str(path))]
        quiet = ["--ansi", "never"] if self.command[0] != "podman" else []
        if progress and quiet:
            quiet += ["--progress", "plain"]
        return [*self.command, *quiet, "--project-directory", str(self.folder), *files, *arguments]

    def read(self, *arguments: str) -> str:
        """Run it and return what it prints; raises StackError."""
        done = subprocess.run(
            self.words(*arguments),
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise refusal(done.stderr, self)
        return done.stdout

    def show(self, *arguments: str) -> int:
        """Run it on our own terminal; return its exit code."""
        with self.started(*arguments) as process:
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                raise

    def started(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it, with our own terminal."""
        return subprocess.Popen(self.words(*arguments), cwd=self.folder, env=self.environ)

    def follow(
        self, title: str, *arguments: str, reporter: Reporter = SILENT, on: Told | None = None
    ) -> None:
        """Run it with its events as one task of the reporter; raises StackError."""
        said: list[str] = []
        with (
            reporter.task(title) as task,
            subprocess.Popen(
                self.words(*arguments, progress=True),
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as process,
        ):
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    event = read_event(line)
                    if event is None:
                        said.append(line)
                        continue
                    task.describe(f"{title}: {event}")
                    if on is not None:
                        on(event)
                task.describe(title)
            except BaseException:
                # A Ctrl-C has reached it too; a SIGTERM hasn't. It stops what it began.
                process.terminate()
                raise
        if process.returncode:
            raise refusal("".join(said), self)


if TYPE_CHECKING:
    Told = Callable[["Event"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that Compose says has happened: name of what, and a word for it."""

    kind: str
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name} {self.what.lower()}"


def read_event(line: str) -> Event | None:
    """What a line of Compose's progress says; None if it is none."""
    if match := _EVENT.match(line):
        return Event(kind=match["kind"], name=match["name"], what=match["what"])
    if match := _PULL.match(line):
        return Event(kind="Image", name=match["name"], what=match["what"])
    return None


def find_compose(folder: Path, environ: Mapping[str, str] | None = None) -> Compose:
    """The Compose to use; raises StackError that says what was tried."""
    environ = dict(os.environ if environ is None else environ)
    named = environ.get("DOCKYARD_COMPOSE")
    candidates: Sequence[tuple[str, ...]] = _CANDIDATES
    if named:
        candidates = [tuple(shlex.split(named))]
    tried = []
    for command in candidates:
        reason = _why_not(command, environ)
        if reason is None:
            return Compose(command=command, folder=folder, environ=environ)
        tried.append(f"tried {' '.join(command)}: {reason}")
    hint = "Correct DOCKYARD_COMPOSE." if named else _INSTALL
    raise StackError("Compose isn't installed here", hint="\n".join([hint, *tried]))


def _why_not(command: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    """Why a command is no Compose of version 2 or newer; None when it is."""
    try:
        done = subprocess.run(
            [*command, "version", "--short"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_FIRST_ANSWER,
        )
    except FileNotFoundError:
        return "there is no such command"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode and re.search("unknown (?:flag|command)|not a docker command", done.stderr):
        return "it has no compose"
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return last[0] if last else f"exit code {done.returncode}"
    version = re.search(r"(\d+)\.\d+", done.stdout)
    if version is None or (command[0] != "podman" and int(version[1]) < 2):
        return f"version {done.stdout.strip() or 'unknown'} is too old; 2 or newer is needed"
    return None


def refusal(said: str, compose: Compose) -> StackError:
    """The error for what Compose said as it failed."""
    for pattern, what, hint in _REFUSALS:
        if match := re.search(pattern, said):
            found = {
                key: (value or "").rstrip(".,:'\"") for key, value in match.groupdict().items()
            }
            return StackError(what.format(**found), hint=hint or None)
    lines = [line.strip() for line in said.splitlines() if not _NOISE.match(line)]
    text = "\n".join(line.removeprefix("Error ") for line in lines[-4:]) or "it gives no reason"
    where = next((path.name for path in compose.files if str(path) in text), None)
    for path in compose.files:
        text = text.replace(str(path), path.name)
    files = "|".join(re.escape(path.name) for path in compose.files)
    is_file = re.search(rf"^yaml: |^validating |^services\.|invalid |undefined |(?:{files}):", text)
    if compose.files and is_file:
        return StackError(
            f"the Compose file isn't valid: {_after(text)}",
            where=where or compose.files[0].name,
            hint="https://docs.docker.com/reference/compose-file/ has every setting.",
        )
    return StackError(f"{compose} fails: {text}")


def _after(text: str) -> str:
    """A complaint without the words that only say that it is one."""
    return re.sub(r"^(?:yaml|validating|parsing)[^:]*: |^Error response from daemon: ", "", text)
