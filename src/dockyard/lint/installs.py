"""What RUN lines install: pip, uv, conda, apt, and what they download.

Rules: words decide, nothing is run. An install is one command; its files are as written, relative
to the folder in which it runs.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dockyard.lint.requirements import Required, parse_required

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.dockerfile.shell import Command, Word
    from dockyard.dockerfile.stages import Stage, Step
    from dockyard.dockerfile.syntax import Place

_PIP = re.compile(r"pip[0-9.]*")
_PYTHON = re.compile(r"python[0-9.]*")
_VALUED = frozenset(
    {
        *("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "-t", "--target"),
        *("-c", "--constraint", "-r", "--requirement", "-e", "--editable", "--trusted-host"),
        *("--prefix", "--root", "--cache-dir", "--timeout", "--default-timeout", "--retries"),
        *("--platform", "--python-version", "--only-binary", "--no-binary", "--python", "-p"),
        *("--torch-backend", "--upgrade-strategy", "--progress-bar", "--index", "--group"),
        *("--extra", "--package", "--link-mode", "--index-strategy", "--src", "--proxy"),
    }
)
_MODEL_URL = re.compile(
    r"\.(?:pt|pth|onnx|h5|hdf5|keras|safetensors|tflite|pb|bin|ckpt|gguf|pkl|joblib|npz|weights)"
    r"(?:[?#].*)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command of a RUN, with its step, stage and place."""

    stage: Stage
    step: Step
    command: Command

    @property
    def place(self) -> Place:
        """Where the command begins."""
        words = self.command.words or self.command.assignments or self.command.targets
        return self.step.instruction.place(words[0].offset if words else 0)

    def place_of(self, word: Word) -> Place:
        """Where one of its words stands."""
        return self.step.instruction.place(word.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """A command that installs Python packages.

    tool: "pip" or "uv"; verb: the word after which options may stand; files: requirement files;
    indexes: URLs; projects: local folders.
    """

    ran: Ran
    tool: str
    verb: Word
    files: tuple[str, ...]
    packages: tuple[Required, ...]
    indexes: tuple[str, ...]
    projects: tuple[str, ...]
    options: frozenset[str]
    backend: str = ""

    def reads(self, path: str) -> bool:
        """Whether it installs from a file of the project, by the file's name."""
        return posixpath.basename(path) in {posixpath.basename(file) for file in self.files}


def commands_of(stage: Stage) -> Iterator[Ran]:
    """The commands of a stage's own RUNs in order."""
    for step in stage.steps:
        if step.keyword == "RUN":
            for command in step.script().commands:
                yield Ran(stage=stage, step=step, command=command)


def python_install(ran: Ran, path: str) -> Install | None:
    """The command as an installation of Python packages; None when it is none."""
    words = list(ran.command.own)
    texts = [word.text for word in words]
    tool = "pip"
    name = ran.command.name
    if _PYTHON.fullmatch(name) and texts[1:3] == ["-m", "pip"]:
        words, texts = words[2:], texts[2:]
    elif _PYTHON.fullmatch(name) and texts[1:3] == ["-m", "uv"]:
        words, texts, tool = words[2:], texts[2:], "uv"
    elif name == "uv":
        tool = "uv"
    elif not _PIP.fullmatch(name):
        return None
    verbs = [index for index, text in enumerate(texts) if index and text in ("install", "sync")]
    if not verbs or (tool == "uv" and not {"pip", "sync"}.intersection(texts[1:3])):
        return None
    at = verbs[0]
    files: list[str] = []
    packages: list[Required] = []
    indexes: list[str] = []
    projects: list[str] = []
    options: set[str] = set()
    backend = ""
    rest = iter(words[at + 1 :])
    for word in rest:
        option, equals, value = word.text.partition("=")
        if not word.text.startswith("-"):
            if word.text in (".", "./") or word.text.startswith(("./", ".[", "/")):
                projects.append(word.text)
            elif tool == "uv" and texts[at] == "sync":
                files.append(word.text)
            else:
                required = parse_required(word.text, path, ran.place_of(word))
                packages += [required] if required else []
            continue
        if (
            option[:2] in ("-r", "-i", "-f", "-c", "-e")
            and len(word.text) > 2
            and word.text[1] != "-"
        ):
            option, value, equals = word.text[:2], word.text[2:], "="
        options.add(option)
        if option in _VALUED and not equals:
            following = next(rest, None)
            value = following.text if following is not None else ""
        if option in ("-r", "--requirement"):
            files.append(value)
        elif option in ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--index"):
            indexes.append(value)
        elif option in ("-e", "--editable"):
            projects.append(value)
        elif option == "--torch-backend":
            backend = value
    if tool == "uv" and texts[at] == "sync" and "pip" not in texts[:at]:
        files.append("uv.lock")
    return Install(
        ran=ran,
        tool=tool,
        verb=words[at],
        files=tuple(files),
        packages=tuple(packages),
        indexes=tuple(indexes),
        projects=tuple(projects),
        options=frozenset(options),
        backend=backend,
    )


def apt_packages(command: Command) -> tuple[Word, ...]:
    """The packages that an `apt-get install` names."""
    if command.name not in ("apt-get", "apt", "aptitude") or "install" not in command.texts:
        return ()
    words = command.own[command.texts.index("install") + 1 :]
    return tuple(
        word for word in words if re.fullmatch(r"[a-z0-9][a-z0-9+.:-]+(?:=\S+)?", word.text)
    )


@dataclass(frozen=True, slots=True)
class Download:
    """A URL that a command fetches. model: whether it looks like weights; target: where to."""

    url: str
    place: Place
    model: bool
    target: str = ""


def downloads(ran: Ran) -> Iterator[Download]:
    """What a command fetches with curl, wget, or a hub's tool."""
    command = ran.command
    texts = command.texts
    if command.name in ("curl", "wget", "aria2c", "axel"):
        target = ""
        for before, text in pairwise(texts):
            if command.name == "curl" and re.fullmatch(r"-[a-zA-Z]*o", before):
                target = text
        for flag in ("-o", "-O", "--output", "--output-document"):
            if flag in texts[:-1] and not (command.name == "curl" and flag == "-O"):
                target = texts[texts.index(flag) + 1]
        target = target or (command.targets[0].text if command.targets else "")
        for word in command.operands():
            if re.match(r"(?:https?|ftp)://", word.text) or "://" in word.text:
                name = target if target and _MODEL_URL.search(target) else word.text
                is_model = bool(_MODEL_URL.search(name) or _MODEL_URL.search(word.text))
                where = target or posixpath.basename(word.text.partition("?")[0])
                yield Download(word.text, ran.place_of(word), is_model, where)
    elif command.name == "gdown":
        for word in command.operands()[:1]:
            yield Download(word.text, ran.place_of(word), True)
    elif (
        command.name in ("huggingface-cli", "hf")
        and texts[1:2] == ("download",)
        and not {"--revision"} & command.options()
    ):
        for word in command.operands()[1:2]:
            yield Download(word.text, ran.place_of(word), True)
