"""Which Python the project wants, and which of those on offer it gets.

Rules: the configuration, then pylock.toml, .python-version, runtime.txt, requires-python,
environment.yml, and last a Dockerfile's FROM, which is a preference only. A patch version counts
as its minor: a base has one patch version of each. When nothing is said the newest is taken, and
the older ones are named as fallbacks, for wheels that aren't made for the newest yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from dockyard.app.detect.decision import Decision
from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dockyard.app.config import AppConfig, ConfigOrigin
    from dockyard.app.detect.dependencies import Documents
    from dockyard.app.detect.dockerfile import Dockerfile

_MINOR = re.compile(r"(?:cpython-|python-?)?(3\.\d{1,2})(?:\.\d+)?(?:-.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonWish:
    """What the project says. minor: exactly this one; specifier: any of these; both "": any.

    firm: False for a mere preference, which another Python may stand in for.
    """

    minor: str = ""
    specifier: str = ""
    firm: bool = True

    def __str__(self) -> str:
        return self.minor or self.specifier or "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonChoice:
    """The minor version to use ("3.11"), and others that would do, the best first."""

    minor: str
    fallback: tuple[str, ...] = ()


def detect_python(
    folder: Path,
    config: AppConfig,
    origin: ConfigOrigin,
    documents: Documents,
    dockerfile: Dockerfile | None,
) -> Decision[PythonWish]:
    """Find what the project says about its Python."""
    if config.python is not None:
        return _wish(config.python, "as configured", origin.where("python"))
    lock = documents.pylock or {}
    if isinstance(own := _own_python(lock), str):
        return _wish(own, "the lock was made for it", "pylock.toml")
    if isinstance(said := lock.get("requires-python"), str) and _specifier(said):
        return _wish(said, "the lock requires it", "pylock.toml")
    for file in (".python-version", "runtime.txt"):
        found = _from_file(folder / file)
        if found:
            return _wish(found[0], f"{file} says so", f"{file}:{found[1]}")
    project = documents.project or {}
    said = project.get("requires-python")
    if isinstance(said, str):
        where = documents.project_where("requires-python")
        if _specifier(said) is None:
            raise ProjectError(
                f"requires-python is no version specifier: {said!r}",
                where=where,
                hint='Write it as in ">=3.11".',
            )
        return _wish(said, "the project requires it", where)
    environment = documents.environment
    if environment is not None and environment.python and environment.python[0]:
        where = f"{documents.environment_name}:{environment.python[1]}"
        return _wish(environment.python[0], "the Conda environment has it", where)
    if dockerfile is not None and dockerfile.image is not None:
        match = re.search(r"python:(3\.\d{1,2})", dockerfile.image.value)
        if match:
            return Decision(
                value=PythonWish(minor=match[1], firm=False),
                why=f"the Dockerfile's base is {dockerfile.image.value}",
                where=f"{dockerfile.name}:{dockerfile.image.line}",
            )
    return Decision(value=PythonWish(), why="nothing asks for another")


def choose_python(
    wish: Decision[PythonWish], available: Sequence[str], *, base: str = "the base"
) -> Decision[PythonChoice]:
    """Choose among the Pythons that a base offers ("3.11" or "3.11.2", in any order).

    Raises ProjectError that names them when none will do.
    """
    offered = sorted({_minor(text): text for text in available}.items(), key=_by_version)
    newest_first = [minor for minor, _ in reversed(offered)]
    wanted = wish.value
    fits = [minor for minor, full in reversed(offered) if _fits(wanted, minor, full)]
    if wanted.minor and fits:
        return Decision(value=PythonChoice(minor=fits[0]), why=wish.why, where=wish.where)
    if fits:
        # Nothing was said, or several will do: the newest, the others as fallbacks.
        why = f"it is the newest on offer ({wish.why})" if wanted.specifier else wish.why
        why = why if wanted.specifier else f"it is the newest on offer, and {wish.why}"
        choice = PythonChoice(minor=fits[0], fallback=tuple(fits[1:]))
        return Decision(value=choice, why=why, where=wish.where)
    if not wanted.firm and newest_first:
        near = min(newest_first, key=lambda minor: _distance(minor, wanted.minor))
        rest = tuple(minor for minor in newest_first if minor != near)
        why = f"{wish.why}, and {near} is the nearest on offer"
        return Decision(value=PythonChoice(minor=near, fallback=rest), why=why, where=wish.where)
    names = " and ".join(reversed(newest_first)) or "none"
    raise ProjectError(
        f"Python {wanted} is wanted ({wish.why}), but {base} offers {names}",
        where=wish.where or None,
        hint=f'Set `python = "{newest_first[0] if newest_first else "3.13"}"` in dockyard.toml, '
        f'or a base that has it, such as `base = "python:{wanted.minor or "3.12"}-slim"`.',
    )


def _wish(text: str, why: str, where: str) -> Decision[PythonWish]:
    match = _MINOR.fullmatch(text.strip())
    if match:
        return Decision(value=PythonWish(minor=match[1]), why=why, where=where)
    exact = re.fullmatch(r"={1,3}\s*(3\.\d{1,2})(?:\.\*|\.\d+)?", text.strip())
    if exact:
        return Decision(value=PythonWish(minor=exact[1]), why=why, where=where)
    return Decision(value=PythonWish(specifier=text.strip()), why=why, where=where)


def _own_python(lock: Mapping[str, Any]) -> object:
    tool = lock.get("tool")
    table = tool.get("dockyard") if isinstance(tool, dict) else None
    return table.get("python") if isinstance(table, dict) else None


def _from_file(path: Path) -> tuple[str, int] | None:
    """The first line that names a Python; names of virtual environments are passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return None
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word and not word.startswith("#") and _MINOR.fullmatch(word):
            return word, number
    return None


def _specifier(text: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return None


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])


def _by_version(item: tuple[str, str]) -> Version:
    return Version(item[0])


def _distance(minor: str, wanted: str) -> tuple[int, int]:
    """How far a minor version is from the wanted one; newer is better than older."""
    difference = int(minor.split(".")[1]) - int(wanted.split(".")[1])
    return abs(difference), -difference


def _fits(wish: PythonWish, minor: str, full: str) -> bool:
    if wish.minor:
        return wish.minor == minor
    specifier = _specifier(wish.specifier) if wish.specifier else SpecifierSet()
    if specifier is None:
        return True
    if full != minor:
        return specifier.contains(full, prereleases=True)
    # The patch version isn't known: it fits if any of them does.
    return any(specifier.contains(f"{minor}.{patch}") for patch in range(40))
