"""Which services of a Compose file Dockyard builds itself, and why the others are the engine's.

Rules: Dockyard builds a project's folder from its dependencies, so a Dockerfile is only evidence:
it may be passed over when all that it does is what such a build does too. Anything else is left to
the engine, and the line that decides is named. Nothing is built here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.stages import read_stages
from dockyard.errors import DockyardError, StackError

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.dockerfile.stages import Stage, Step
    from dockyard.stack.existing import Found

_BASES = re.compile(r"(?:docker\.io/)?(?:library/)?python:[^@]*")
_PLAIN = frozenset(
    {"ENV", "ARG", "EXPOSE", "WORKDIR", "CMD", "ENTRYPOINT", "LABEL", "STOPSIGNAL", "MAINTAINER"}
    | {"HEALTHCHECK", "USER", "VOLUME"}
)
_PROGRAMS = frozenset({"pip", "pip3", "mkdir", "python -m pip", "python3 -m pip"})
# Settings of `build:` that don't change what Dockyard would build.
_HARMLESS = frozenset({"context", "dockerfile"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who builds a service, and why it isn't Dockyard ("" when it is)."""

    by_dockyard: bool
    why: str = ""


def choose_builder(service: Found) -> Choice:
    """Decide who builds a service that has something to build."""
    assert service.context is not None
    further = sorted(set(service.build) - _HARMLESS)
    if further:
        return Choice(by_dockyard=False, why=f"`build` has {', '.join(further)}")
    if not service.context.is_dir():
        if "://" in str(service.context) or service.build.get("dockerfile_inline"):
            return Choice(by_dockyard=False, why="it isn't built from a folder")
        raise StackError(
            f"the service {service.name} is built from a folder that isn't there",
            where=str(service.context),
            hint="Correct `build:`.",
        )
    if service.dockerfile is None or not service.dockerfile.is_file():
        return Choice(by_dockyard=True)
    reason = why_not_simple(service.dockerfile)
    return Choice(by_dockyard=reason is None, why=reason or "")


def why_not_simple(path: Path) -> str | None:
    """The line of a Dockerfile that does more than install and start the app; None if none does."""
    try:
        document = parse(path.read_text(encoding="utf-8", errors="replace"), name=path.name)
        if document.faults:
            fault = document.faults[0]
            return f"{path.name}:{fault.place.line}: {fault.what}"
        stages = read_stages(document)
    except (OSError, DockyardError) as error:
        return f"{path.name} can't be read: {error}"
    if len(stages) != 1:
        return f"{path.name} has {len(stages)} stages"
    stage = stages[0]
    if not _BASES.fullmatch(stage.written):
        return f"{path.name}:{stage.origin.line}: FROM {stage.written}"
    for step in stage.steps:
        if not _is_plain(step, stage):
            return f"{path.name}:{step.line}: {_cut(f'{step.keyword} {step.instruction.rest}')}"
    return None


def _is_plain(step: Step, stage: Stage) -> bool:
    if step.keyword in _PLAIN:
        return True
    if step.keyword in ("COPY", "ADD"):
        # Of local files, without --from, --chown or renaming: what is in the project is in /app.
        words = step.instruction.rest.split()
        return not step.instruction.flags and "://" not in step.instruction.rest and len(words) == 2
    if step.keyword == "RUN":
        script = step.script()
        return script.simple and all(
            _is_plain_command(command.texts) for command in script.commands
        )
    return False


def _is_plain_command(words: tuple[str, ...]) -> bool:
    """pip install, from files or of pip itself, and mkdir."""
    if not words:
        return True
    if words[0] in ("python", "python3") and words[1:3] == ("-m", "pip"):
        words = words[2:]
    if words[0] == "mkdir":
        return True
    if words[0] not in ("pip", "pip3") or "install" not in words:
        return False
    named = [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
    is_file = re.compile(r".*\.(?:txt|in)")
    return all(word in ("pip", "setuptools", "wheel") or is_file.fullmatch(word) for word in named)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else line[:69] + "…"
