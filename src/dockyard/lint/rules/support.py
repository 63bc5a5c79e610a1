"""DY2: what is too old: no wheels, no fixes, no signature."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import hit
from dockyard.lint.rule import rule
from dockyard.lint.subject import split_image
from dockyard.lint.support import ended_image, ended_package, python_of, wheels_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import Subject


@rule(
    "DY204",
    "no-wheel",
    "A pinned release has no wheel for the image's Python",
    severity="error",
    cost="The build fails, or compiles for an hour with compilers that stay in the image.",
    why="""Frameworks publish wheels for some versions of Python. For another one pip takes the
    source, where there is one, or finds nothing.""",
    bad="FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==1.13.1\n",
    good="FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1\n",
    fixed="FROM python:3.11-slim\nRUN pip install --no-cache-dir torch==1.13.1\n",
)
def no_wheel(subject: Subject) -> Iterator[Hit]:
    """A release outside of the table of its wheels."""
    for view in subject.dockerfiles:
        name, tag, _ = view.image
        minor = python_of(name, tag)
        for required in view.required() if minor is not None else ():
            series = required.series()
            known = wheels_for(required.name, series) if series and not required.conda else None
            if known is None or minor is None or known[0] <= minor <= known[1]:
                continue
            yield hit(
                required.file,
                required.place,
                f"{required.text} has wheels for Python 3.{known[0]} to 3.{known[1]}; "
                f"{name}:{tag} has 3.{minor}",
                fix=f"Take a base with Python 3.{known[1]}, or another release.",
            )


@rule(
    "DY208",
    "end-of-life",
    "It gets no security fixes any more",
    cost="Known holes stay open.",
    why="""Frameworks, Pythons, distributions and services are supported for some years. After that
    nobody fixes what is found, and package archives move away.""",
    bad="FROM python:3.7-slim\n",
    good="FROM python:3.12-slim\n",
    fixed="FROM python:3.12-slim\n",
)
def end_of_life(subject: Subject) -> Iterator[Hit]:
    """Bases, packages and services of a table that are past their day."""
    for view in subject.dockerfiles:
        for stage in view.needed:
            if stage.parent is not None:
                continue
            name, tag = split_image(stage.image or "")
            ended = ended_image(name, tag, subject.today)
            if ended is not None:
                yield hit(
                    view.path,
                    Place(stage.origin.line),
                    f"{ended.what} has had no fixes since {ended.day:%B %Y}",
                    fix=f"Take {ended.instead}.",
                )
        for required in view.required():
            gone = ended_package(required.name, required.series(), subject.today)
            if gone is not None:
                yield hit(
                    required.file,
                    required.place,
                    f"{gone.what} has had no fixes since {gone.day:%B %Y}",
                    fix=f"Take {gone.instead}.",
                )
    for file, service in subject.services():
        image = service.get("image")
        if isinstance(image, str):
            ended = ended_image(*split_image(image), subject.today)
            if ended is not None:
                yield hit(
                    file.path,
                    service.place("image"),
                    f"{ended.what} has had no fixes since {ended.day:%B %Y}",
                    fix=f"Take {ended.instead}.",
                )


@rule(
    "DY209",
    "retired-signing-key",
    "The base's NVIDIA repository is signed with a retired key",
    severity="error",
    cost="`apt-get update` fails, and so does the build.",
    why="""NVIDIA changed the keys of its repositories in April 2022. Images that were made before
    still list the repository, whose signature their key no longer matches.""",
    bad="FROM tensorflow/tensorflow:2.3.0-gpu\nRUN apt-get update && apt-get install -y git\n",
    good="FROM tensorflow/tensorflow:2.16.1-gpu\nRUN apt-get update && apt-get install -y git\n",
    fixed="FROM tensorflow/tensorflow:2.3.0-gpu\n"
    "RUN rm -f /etc/apt/sources.list.d/cuda.list /etc/apt/sources.list.d/nvidia-ml.list \\\n"
    " && apt-get update && apt-get install -y git\n",
)
def retired_signing_key(subject: Subject) -> Iterator[Hit]:
    """`apt-get update` on a base with the old keys, without a word about them."""
    for view in subject.dockerfiles:
        for stage in view.needed:
            name, tag = split_image(stage.base() or "")
            if not _has_old_key(name, tag):
                continue
            repaired = False
            for step in stage.steps:
                for command in step.script().commands if step.keyword == "RUN" else ():
                    said = " ".join(command.texts)
                    if re.search(
                        r"cuda-keyring|3bf863cc|apt-key|cuda.*\.list|sources\.list\.d", said
                    ):
                        repaired = True
                    if command.name == "apt-get" and "update" in command.texts and not repaired:
                        repaired = True
                        yield hit(
                            view.path,
                            step.instruction.place(command.words[0].offset),
                            f"{name}:{tag} was made before NVIDIA changed its keys",
                            fix="Remove cuda.list and nvidia-ml.list from /etc/apt/sources.list.d "
                            "before, or take a newer base.",
                        )


def _has_old_key(name: str, tag: str) -> bool:
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", tag)
    if match is None:
        return False
    series = (int(match[1]), int(match[2]))
    if name == "tensorflow/tensorflow":
        return "gpu" in tag and series <= (2, 8)
    if name == "pytorch/pytorch":
        return series <= (1, 11)
    return name == "nvidia/cuda" and series < (11, 3)
