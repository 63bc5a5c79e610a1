"""Stages: what each FROM begins, with the variables, user and folder that hold at each instruction.

Rules (Dockerfile reference): ARG before the first FROM counts in FROM lines only, and in a stage
that names it again; ENV wins over ARG; a stage built from another inherits all but its ARGs. A
value that can't be told is left out of the variables; an image that can't be told is None.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dockyard.dockerfile.shell import Command, Script, Word, read_script
from dockyard.dockerfile.words import arguments, assignments, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dockyard.dockerfile.syntax import Document, Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An instruction, and what held before it. user is "" where the base decides."""

    instruction: Instruction
    variables: Mapping[str, str]
    user: str
    workdir: str
    shell: tuple[str, ...] | None = None

    @property
    def keyword(self) -> str:
        """The instruction's keyword."""
        return self.instruction.keyword

    @property
    def line(self) -> int:
        """The instruction's first line."""
        return self.instruction.line

    def script(self) -> Script:
        """The commands of a RUN, its here-documents' included."""
        made = self.instruction
        if made.words is not None:
            words = tuple(Word(word, word, max(0, made.rest.find(word))) for word in made.words)
            return Script(commands=(Command(words=words),) if words else (), simple=False)
        text = made.rest
        for document in made.heredocs:
            text += "\n" + document.text
        return read_script(text)

    def expanded(self, raw: str, escape: str = "\\") -> str | None:
        """A word of the instruction with its variables replaced; None where one isn't known."""
        return expand(raw, self.variables, escape)


@dataclass(slots=True, kw_only=True)
class Stage:
    """A stage. image: what FROM names, variables replaced; parent: the stage that it names."""

    index: int
    name: str
    origin: Instruction
    written: str
    image: str | None
    platform: str | None
    parent: Stage | None = None
    steps: list[Step] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = "/"
    shell: tuple[str, ...] | None = None

    def lineage(self) -> tuple[Stage, ...]:
        """The stages that make up this one's file system, the base's first."""
        return (*(self.parent.lineage() if self.parent else ()), self)

    def all_steps(self) -> Iterator[Step]:
        """The steps of the lineage in order."""
        for stage in self.lineage():
            yield from stage.steps

    def base(self) -> str | None:
        """The image at the bottom, variables replaced; None where it can't be told."""
        return self.lineage()[0].image

    def last(self, keyword: str) -> Step | None:
        """The last instruction of that keyword in the lineage."""
        found = [step for step in self.all_steps() if step.keyword == keyword]
        return found[-1] if found else None


def read_stages(
    document: Document, *, build_args: Mapping[str, str] | None = None
) -> tuple[Stage, ...]:
    """The stages of a document in order; empty when it has no FROM. Never raises."""
    given = dict(build_args or {})
    escape = document.escape
    outer: dict[str, str] = {}
    stages: list[Stage] = []
    args: dict[str, str] = {}
    for made in document.instructions:
        if made.keyword == "FROM":
            stages.append(_begin(made, stages, outer, escape))
            args = {}
            continue
        if not stages:
            if made.keyword == "ARG":
                for name, raw, _ in arguments(made.rest, escape):
                    value = given.get(name, None if raw is None else expand(raw, outer, escape))
                    if value is not None:
                        outer[name] = value
            continue
        stage = stages[-1]
        known = args | stage.env
        stage.steps.append(
            Step(
                instruction=made,
                variables=known,
                user=stage.user,
                workdir=stage.workdir,
                shell=stage.shell,
            )
        )
        if made.keyword == "ARG":
            for name, raw, _ in arguments(made.rest, escape):
                value = given.get(name)
                if value is None:
                    value = outer.get(name) if raw is None else expand(raw, known, escape)
                if value is not None:
                    args[name] = value
        else:
            _apply(stage, made, known, escape)
    return tuple(stages)


def needed_stages(stages: tuple[Stage, ...], target: Stage) -> tuple[Stage, ...]:
    """The stages that a build of `target` runs: its own lineage, and what they copy from."""
    found: dict[int, Stage] = {}
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage.index in found:
            continue
        found[stage.index] = stage
        waiting += [stage.parent] if stage.parent else []
        for step in stage.steps:
            source = copied_stage(stages, stage, step)
            if source is not None:
                waiting.append(source)
    return tuple(found[index] for index in sorted(found))


def copied_stage(stages: tuple[Stage, ...], stage: Stage, step: Step) -> Stage | None:
    """The stage that COPY --from names; None for the context and for images."""
    name = step.instruction.flag("from") if step.keyword == "COPY" else None
    if not name:
        return None
    for other in stages[: stage.index]:
        if other.name.lower() == name.lower() or str(other.index) == name:
            return other
    return None


def _begin(made: Instruction, stages: list[Stage], outer: Mapping[str, str], escape: str) -> Stage:
    words = made.rest.split()
    image = expand(words[0], outer, escape)
    name = words[2] if len(words) >= 3 and words[1].upper() == "AS" else ""
    parent = None
    for other in stages:
        if image and other.name and other.name.lower() == image.lower():
            parent = other
    flag = made.flag("platform")
    platform = expand(flag, outer, escape) if flag else None
    stage = Stage(
        index=len(stages),
        name=name or str(len(stages)),
        origin=made,
        written=words[0],
        image=image,
        platform=platform or flag,
        parent=parent,
    )
    if parent is not None:
        stage.env = dict(parent.env)
        stage.user, stage.workdir, stage.shell = parent.user, parent.workdir, parent.shell
    return stage


def _apply(stage: Stage, made: Instruction, known: Mapping[str, str], escape: str) -> None:
    if made.keyword == "ENV":
        for name, word in assignments(made.rest, escape):
            value = expand(word.raw, known, escape)
            if value is not None:
                stage.env[name] = value
            else:
                stage.env.pop(name, None)
    elif made.keyword == "USER":
        stage.user = expand(made.rest, known, escape) or made.rest
    elif made.keyword == "WORKDIR":
        path = expand(made.rest, known, escape) or made.rest
        stage.workdir = posixpath.normpath(posixpath.join(stage.workdir or "/", path))
    elif made.keyword == "SHELL":
        stage.shell = made.words
