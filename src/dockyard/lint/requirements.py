"""What the project requires, and where it says so: requirements files, pyproject.toml, Conda.

Rules: a line that is no requirement is passed over here; resolving complains about it. Options of a
requirements file (indexes) are kept, since they decide which wheels come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dockyard.app.positions import key_lines
from dockyard.dockerfile.syntax import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = re.compile(r"(?:requirements|constraints)[\w.-]*\.(?:txt|in)|[\w.-]+[-_]requirements\.txt")
_CONDA = re.compile(r"\s*-\s*([A-Za-z0-9_.-]+)\s*(?:(=+|[<>~!]=?)\s*([\w.*]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """A package that is required. version: of an exact pin, else ""; text: as written."""

    name: str
    text: str
    file: str
    place: Place
    version: str = ""
    pinned: bool = False
    extras: frozenset[str] = frozenset()
    specifier: str = ""
    conda: bool = False

    def series(self) -> tuple[int, int] | None:
        """Major and minor of the pinned version, or of a bound such as ~=2.3 or ==2.3.*."""
        match = re.match(r"(?:==|~=)?\s*v?(\d+)\.(\d+)", self.version or self.specifier)
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementsFile:
    """A file of requirements. options: its lines that begin with "-", and their line numbers."""

    path: str
    required: tuple[Required, ...]
    options: tuple[tuple[str, int], ...] = ()
    hashed: bool = False


def read_requirements(path: str, text: str) -> RequirementsFile:
    """Read a requirements file's text; never raises."""
    found, options, hashed = [], [], False
    for number, line in enumerate(re.sub(r"\\\r?\n", "  ", text).splitlines(), 1):
        written = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if not written:
            continue
        if written.startswith("-"):
            options.append((written, number))
            continue
        if "--hash" in written:
            hashed = True
            written = written.partition("--hash")[0].strip()
        required = parse_required(written, path, Place(number, line.index(written[0]) + 1))
        if required is not None:
            found.append(required)
    return RequirementsFile(path=path, required=tuple(found), options=tuple(options), hashed=hashed)


def read_pyproject(path: str, text: str) -> RequirementsFile:
    """Read the dependencies of a pyproject.toml."""
    import tomllib

    found: list[Required] = []
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        return RequirementsFile(path=path, required=())
    lines = key_lines(text)
    project = document.get("project")
    listed = project.get("dependencies") if isinstance(project, dict) else None
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(item, str):
            line = lines.get(("project", "dependencies", index), 1)
            required = parse_required(item, path, Place(line))
            found += [required] if required else []
    return RequirementsFile(path=path, required=tuple(found))


def read_conda(path: str, text: str) -> RequirementsFile:
    """Read the packages of an environment.yml, Conda's and pip's."""
    found: list[Required] = []
    pip_indent = -1
    for number, line in enumerate(text.splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if re.match(r"\s*-\s*pip\s*:", line):
            pip_indent = indent
            continue
        match = _CONDA.match(line)
        if match is None:
            continue
        if 0 <= pip_indent < indent:
            text_ = line.strip().removeprefix("-").strip()
            required = parse_required(text_, path, Place(number, indent + 1))
            found += [required] if required else []
            continue
        version = match[3] if (match[2] or "").startswith("=") else ""
        found.append(
            Required(
                name=match[1].lower(),
                text=line.strip(),
                file=path,
                place=Place(number, indent + 1),
                version=version or "",
                pinned=bool(version),
                conda=True,
            )
        )
    return RequirementsFile(path=path, required=tuple(found))


def parse_required(text: str, file: str, place: Place) -> Required | None:
    """Read one requirement (PEP 508); None for anything else."""
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError):
        return None
    exact = [
        clause.version
        for clause in requirement.specifier
        if clause.operator in ("==", "===") and "*" not in clause.version
    ]
    return Required(
        name=canonicalize_name(requirement.name),
        text=text,
        file=file,
        place=place,
        version=exact[0] if exact else "",
        pinned=bool(exact) or requirement.url is not None,
        extras=frozenset(requirement.extras),
        specifier=str(requirement.specifier),
    )


def index_urls(file: RequirementsFile) -> Iterator[str]:
    """The indexes that a requirements file names."""
    for option, _ in file.options:
        match = re.match(r"(?:--(?:extra-)?index-url|--find-links|-i|-f)[\s=]+(\S+)", option)
        if match:
            yield match[1]
