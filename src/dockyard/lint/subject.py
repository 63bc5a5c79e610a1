"""What rules look at: the project's Dockerfiles, context, requirements, code, Compose and models.

Rules: everything is read at first use, and once. What can't be read is passed over. `today` decides
what is out of support, so that a test can say which day it is.
"""

from __future__ import annotations

import datetime
import re
from functools import cached_property
from typing import TYPE_CHECKING

from dockyard.app.detect.models import is_model
from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.stages import needed_stages, read_stages
from dockyard.dockerfile.syntax import Place
from dockyard.dockerfile.words import split_raw, unquoted
from dockyard.lint.code import LARGEST, Call, Module, parse_module
from dockyard.lint.compose import NAMES as COMPOSE_NAMES
from dockyard.lint.compose import ComposeFile, Service, read_compose
from dockyard.lint.installs import Install, Ran, commands_of, python_install
from dockyard.lint.requirements import NAMES as REQUIREMENTS_NAMES
from dockyard.lint.requirements import (
    Required,
    RequirementsFile,
    index_urls,
    read_conda,
    read_pyproject,
    read_requirements,
)
from dockyard.lint.tree import Context, TreeFile, build_context, list_tree, own_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dockyard.dockerfile.stages import Stage, Step
    from dockyard.dockerfile.syntax import Document

_DOCKERFILE = re.compile(
    r"(?:Dockerfile|Containerfile|dockerfile)(?:[.-][\w.-]+)?|[\w.-]+\.[Dd]ockerfile"
)
_TEXT_LIMIT = 2 << 20
_CONTEXT_TOPS = frozenset({".", "./", "/", "*", "./*", "./."})


class Copied:
    """A COPY or ADD of the build context."""

    def __init__(self, stage: Stage, step: Step, sources: tuple[str, ...], target: str) -> None:
        self.stage = stage
        self.step = step
        self.sources = sources
        self.target = target

    @property
    def place(self) -> Place:
        """Where its instruction begins."""
        return Place(self.step.line, self.step.instruction.column)

    @property
    def whole(self) -> bool:
        """Whether it copies the whole context."""
        return not _CONTEXT_TOPS.isdisjoint(self.sources)

    def files(self, context: Context) -> tuple[TreeFile, ...]:
        """What of the context it copies."""
        found = {file for source in self.sources for file in context.chosen(source)}
        return tuple(sorted(found, key=lambda file: file.path))


class DockerfileView:
    """A Dockerfile, and what rules ask of it."""

    def __init__(self, subject: Subject, path: str, text: str) -> None:
        self.subject = subject
        self.path = path
        self.text = text

    @cached_property
    def document(self) -> Document:
        """The parsed text."""
        return parse(self.text, name=self.path)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage."""
        return read_stages(self.document)

    @property
    def final(self) -> Stage | None:
        """The last stage, which is the image."""
        return self.stages[-1] if self.stages else None

    @cached_property
    def needed(self) -> tuple[Stage, ...]:
        """The stages that the last one needs, itself included."""
        return needed_stages(self.stages, self.stages[-1]) if self.stages else ()

    @cached_property
    def final_steps(self) -> tuple[Step, ...]:
        """The instructions that make the image, inherited ones first."""
        return tuple(self.final.all_steps()) if self.final else ()

    @cached_property
    def ran(self) -> tuple[Ran, ...]:
        """The commands of every stage that the image needs."""
        return tuple(ran for stage in self.needed for ran in commands_of(stage))

    @cached_property
    def final_ran(self) -> tuple[Ran, ...]:
        """The commands whose results are in the image's own layers."""
        lineage = self.final.lineage() if self.final else ()
        return tuple(ran for stage in lineage for ran in commands_of(stage))

    @cached_property
    def installs(self) -> tuple[Install, ...]:
        """The installations of Python packages."""
        found = (python_install(ran, self.path) for ran in self.ran)
        return tuple(install for install in found if install is not None)

    @cached_property
    def context(self) -> Context:
        """What a build of it sends."""
        return build_context(self.subject.folder, self.subject.tree, self.path)

    @cached_property
    def copies(self) -> tuple[Copied, ...]:
        """Every COPY and ADD of the context, in all needed stages."""
        found = []
        for stage in self.needed:
            for step in stage.steps:
                if step.keyword not in ("COPY", "ADD") or step.instruction.flag("from"):
                    continue
                made = step.instruction
                words = made.words
                if words is None:
                    raw = split_raw(made.rest, self.document.escape)
                    words = tuple(
                        step.expanded(word.raw, self.document.escape) or unquoted(word.raw)
                        for word in raw
                    )
                *sources, target = words
                local = tuple(
                    source for source in sources if "://" not in source and source[:2] != "<<"
                )
                if local:
                    found.append(Copied(stage, step, local, target))
        return tuple(found)

    @cached_property
    def image(self) -> tuple[str, str, int]:
        """The base's name, tag and line: ("python", "3.12", 1); empty where it can't be told."""
        if self.final is None:
            return "", "", 1
        first = self.final.lineage()[0]
        name, tag = split_image(first.image or "")
        return name, tag, first.origin.line

    @cached_property
    def env(self) -> dict[str, str]:
        """The image's own variables."""
        return dict(self.final.env) if self.final else {}

    def env_place(self, name: str) -> Place:
        """Where ENV last gives that variable."""
        place = Place(1)
        for step in self.final_steps:
            if step.keyword == "ENV":
                match = re.search(rf"(?:^|\s)({re.escape(name)})(?:=|\s)", step.instruction.rest)
                if match:
                    place = step.instruction.place(match.start(1))
        return place

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The words of ENTRYPOINT and CMD, split when they are in shell form."""
        found = []
        for keyword in ("ENTRYPOINT", "CMD"):
            step = self.final.last(keyword) if self.final else None
            if step is not None:
                rest = step.instruction.rest
                found.append(step.instruction.words or tuple(rest.split()))
        return tuple(found)

    def required(self) -> tuple[Required, ...]:
        """What it installs: the files that it names, and packages in its own lines."""
        names = {path for file in self.subject.requirements for path in (file.path,)}
        read = {path for path in names for install in self.installs if install.reads(path)} | {
            path
            for path in names
            for install in self.installs
            if install.projects and path.endswith("pyproject.toml")
        }
        conda = any(ran.command.name in ("conda", "mamba", "micromamba") for ran in self.ran)
        found = [
            required
            for file in self.subject.requirements
            if file.path in read or (conda and file.path.endswith((".yml", ".yaml")))
            for required in file.required
        ]
        return (*found, *(item for install in self.installs for item in install.packages))

    def indexes(self) -> tuple[str, ...]:
        """The package indexes that its installations ask."""
        found = [url for install in self.installs for url in install.indexes]
        found += [install.backend for install in self.installs if install.backend]
        for file in self.subject.requirements:
            if any(install.reads(file.path) for install in self.installs):
                found += index_urls(file)
        found += [
            value for name, value in self.env.items() if name in ("PIP_INDEX_URL", "UV_INDEX_URL")
        ]
        found += [
            value
            for name, value in self.env.items()
            if name in ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_TORCH_BACKEND")
        ]
        return tuple(found)


class Subject:
    """A project. dockerfiles: paths to look at; None: those that are found."""

    def __init__(
        self,
        folder: Path,
        *,
        dockerfiles: Sequence[str] | None = None,
        today: datetime.date | None = None,
    ) -> None:
        self.folder = folder
        self.named = dockerfiles
        self.today = today or datetime.datetime.now(tz=datetime.UTC).date()

    @cached_property
    def tree(self) -> tuple[TreeFile, ...]:
        """Every file of the project."""
        return list_tree(self.folder)

    @cached_property
    def sources(self) -> tuple[TreeFile, ...]:
        """Those that the project's authors wrote."""
        return tuple(own_sources(self.tree))

    def read(self, path: str) -> str | None:
        """A file's text; None when it can't be read or is too large for one that people write."""
        try:
            with (self.folder / path).open("rb") as file:
                data = file.read(_TEXT_LIMIT + 1)
        except OSError:
            return None
        return None if len(data) > _TEXT_LIMIT else data.decode("utf-8", errors="replace")

    def head(self, path: str, size: int) -> bytes:
        """A file's first bytes; none when it can't be read."""
        try:
            with (self.folder / path).open("rb") as file:
                return file.read(size)
        except OSError:
            return b""

    @cached_property
    def dockerfiles(self) -> tuple[DockerfileView, ...]:
        """The Dockerfiles to look at, those in the project's own folders."""
        paths = self.named
        if paths is None:
            paths = [
                file.path
                for file in self.sources
                if _DOCKERFILE.fullmatch(file.name)
                and not file.name.endswith(".dockerignore")
                and file.path.count("/") <= 2
            ]
        read = ((path, self.read(path)) for path in paths)
        return tuple(DockerfileView(self, path, text) for path, text in read if text is not None)

    @cached_property
    def compose(self) -> tuple[ComposeFile, ...]:
        """The Compose files."""
        found = []
        for file in self.sources:
            if COMPOSE_NAMES.fullmatch(file.name) and file.path.count("/") <= 2:
                text = self.read(file.path)
                if text is not None:
                    found.append(read_compose(file.path, text))
        return tuple(found)

    def services(self) -> Iterator[tuple[ComposeFile, Service]]:
        """Every service with its file."""
        for file in self.compose:
            for service in file.services:
                yield file, service

    def built_services(self) -> Iterator[tuple[ComposeFile, Service]]:
        """The services that are built from this project."""
        for file, service in self.services():
            if service.settings.get("build"):
                yield file, service

    @cached_property
    def requirements(self) -> tuple[RequirementsFile, ...]:
        """The files that say what the project requires."""
        found = []
        for file in self.sources:
            if file.path.count("/") > 2:
                continue
            if REQUIREMENTS_NAMES.fullmatch(file.name):
                read = read_requirements
            elif file.name == "pyproject.toml":
                read = read_pyproject
            elif file.name in ("environment.yml", "environment.yaml"):
                read = read_conda
            else:
                continue
            text = self.read(file.path)
            if text is not None:
                found.append(read(file.path, text))
        return tuple(found)

    def required(self) -> tuple[Required, ...]:
        """What the Dockerfiles install; what the project's files name, where none installs."""
        found = tuple(item for view in self.dockerfiles for item in view.required())
        return found or tuple(item for file in self.requirements for item in file.required)

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The project's Python files, without its tests."""
        found: list[Module] = []
        for file in self.sources:
            if not file.path.endswith(".py") or file.size > LARGEST or len(found) > 3000:
                continue
            if {"tests", "test"} & set(file.path.split("/")) or file.name.startswith("test_"):
                continue
            text = self.read(file.path)
            module = parse_module(file.path, text) if text is not None else None
            found += [module] if module else []
        return tuple(found)

    def calls(self) -> Iterator[tuple[Module, Call]]:
        """Every call of the project's code."""
        for module in self.modules:
            for call in module.calls:
                yield module, call

    @cached_property
    def imports(self) -> frozenset[str]:
        """The top-level modules that the code imports."""
        return frozenset(name for module in self.modules for name in module.imports)

    @cached_property
    def models(self) -> tuple[TreeFile, ...]:
        """The model files."""
        return tuple(file for file in self.sources if is_model(file.path, file.size))

    @cached_property
    def uses_gpu(self) -> str:
        """What says that the app runs on a GPU; "" when nothing does."""
        for view in self.dockerfiles:
            if "cuda" in (view.final.base() or "" if view.final else ""):
                return f"{view.path} is based on {view.final.base() if view.final else ''}"
            if any(name.startswith("NVIDIA_") for name in view.env):
                return f"{view.path} sets NVIDIA variables"
        for file, service in self.services():
            if service.has_gpu():
                return f"{file.path} reserves a GPU"
        for module in self.modules:
            if re.search(r"""["']cuda(?::\d)?["']|\.cuda\(|\bcuda\.is_available""", module.text):
                return f"{module.path} names cuda"
        return ""


def split_image(reference: str) -> tuple[str, str]:
    """The name and tag of an image: ("tensorflow/tensorflow", "2.3.0-gpu-py3")."""
    rest = reference.partition("@")[0]
    head, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    name = (head + slash + name).removeprefix("docker.io/").removeprefix("library/")
    return name, tag
