"""What a project depends on, read for its inputs: files, names, lines and hashes.

Rules:
- uv resolves the source file itself; this reading only says which files count as input, where a
  name was written (for messages), which packages were asked for by name, and which SHA-256
  hashes were demanded.
- requirements.txt is read as pip documents its format: continuation lines, comments, -r and -c,
  environment variables written ${NAME}.
- Of pyproject.toml only what can change a resolution counts as input: formatting a linter's
  table doesn't make a lock stale.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockyard.errors import ResolveError
from dockyard.wheels.credentials import Credentials, find_urls, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packaging.requirements import Requirement

SourceKind = Literal[
    "requirements.txt", "pyproject.toml", "uv.lock", "pylock.toml", "environment.yml"
]

_COMMENT = re.compile(r"(^|\s)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_HASH = re.compile(r"\s--hash[=\s]([a-z0-9]+):([0-9a-fA-F]+)")
_NESTED = re.compile(r"^(-r|--requirement|-c|--constraint)[=\s]*(.+)$")
_EDITABLE = re.compile(r"^(-e|--editable)[=\s]*(.+)$")
_INDEX = re.compile(r"^(-i|--index-url|--pypi-url)[=\s]")
# What a folder's metadata can depend on, besides its code.
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencySource:
    """The file that says what a project depends on.

    folder: the project's, where the file is a stand-in for requirements that are listed elsewhere;
    what it includes counts, and is named in messages, by its place there.
    """

    kind: SourceKind
    path: Path
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementLine:
    """One requirement as it was written.

    where: "file:line"; name: normalised, None for a path or URL that doesn't say it; hashes:
    demanded SHA-256 hashes, hexadecimal.
    """

    where: str
    text: str
    name: str | None = None
    requirement: Requirement | None = None
    hashes: tuple[str, ...] = ()
    editable: bool = False
    local: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """All that was read from one source.

    files: every file that counts as input; content: what counts of them, in canonical form;
    stdin: the requirements to hand to uv in place of the file; python: the version that the
    source itself asks for; names_index: whether the file names its main index.
    """

    source: DependencySource
    lines: tuple[RequirementLine, ...] = ()
    files: tuple[Path, ...] = ()
    content: tuple[str, ...] = ()
    stdin: str | None = None
    python: str | None = None
    names_index: bool = False
    notes: tuple[str, ...] = ()
    credentials: Credentials = field(default_factory=Credentials)

    @property
    def names(self) -> frozenset[str]:
        """Normalised names of the packages asked for."""
        return frozenset(line.name for line in self.lines if line.name)

    def locate(self, name: str) -> str | None:
        """Where this package was asked for ("requirements.txt:3"), if it was."""
        return next((line.where for line in self.lines if line.name == name), None)

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the content."""
        text = json.dumps([self.source.kind, *self.content])
        return hashlib.sha256(text.encode()).hexdigest()


def read_source(
    source: DependencySource,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Requirements:
    """Read what counts as input of one source.

    Raises ResolveError when it, or a file that it includes, can't be read or understood.
    """
    if source.kind == "requirements.txt":
        if extras or groups:
            raise ResolveError(
                "a requirements file has no extras and no dependency groups",
                where=source.path.name,
                hint="Take them out of the configuration, or move to pyproject.toml.",
            )
        return _read_requirements(source)
    if source.kind == "environment.yml":
        from dockyard.wheels.conda import read_environment

        found = read_environment(source.path)
        inner = _parse(source.path, found.requirements, _Reading(source.path.parent), found.lines)
        return Requirements(
            source=source,
            lines=tuple(inner.lines),
            files=(source.path, *inner.files),
            content=(found.requirements, *inner.content),
            stdin=found.requirements,
            python=found.python,
            names_index=inner.names_index,
            notes=found.notes,
            credentials=inner.credentials(),
        )
    if source.kind == "pyproject.toml":
        return _read_pyproject(source, extras, groups)
    return Requirements(
        source=source,
        lines=_locked_names(source) if source.kind == "uv.lock" else (),
        files=(source.path,),
        content=(_read(source.path, None), *_folder_content(source.path.parent)),
    )


class _Reading:
    """What gathers while files include each other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[RequirementLine] = []
        self.files: list[Path] = []
        self.content: list[str] = []
        self.texts: list[str] = []
        self.names_index = False

    def credentials(self) -> Credentials:
        return Credentials.of(url for text in self.texts for url in find_urls(text))


def _read_requirements(source: DependencySource) -> Requirements:
    reading = _Reading(source.folder or source.path.parent)
    reading.files.append(source.path)
    text = _read(source.path, None)
    # Where the project lies on this machine is no input.
    portable = text if source.folder is None else text.replace(f"{source.folder}/", "")
    reading.content.append(_significant(portable))
    _parse(source.path, text, reading)
    return Requirements(
        source=source,
        lines=tuple(reading.lines),
        files=tuple(reading.files),
        content=tuple(reading.content),
        names_index=reading.names_index,
        credentials=reading.credentials(),
    )


def _parse(
    path: Path, text: str, reading: _Reading, numbers: Sequence[int] | None = None
) -> _Reading:
    """Read the lines of one requirements file; `numbers` gives their places in the real file."""
    shown = path.name if path in reading.files[:1] else _shown(path, reading.root)
    for number, line in _logical_lines(text):
        where = f"{shown}:{numbers[number - 1] if numbers else number}"
        line = _VARIABLE.sub(lambda found: os.environ.get(found[1], found[0]), line)
        reading.texts.append(line)
        if nested := _NESTED.match(line):
            _include(
                path,
                nested[2].strip().strip("\"'"),
                where,
                nested[1] in ("-c", "--constraint"),
                reading,
            )
        elif _INDEX.match(line):
            reading.names_index = True
        elif editable := _EDITABLE.match(line):
            _add_local(path, editable[2].strip(), where, reading, editable=True)
        elif not line.startswith("-"):
            _add(path, line, where, reading)
    return reading


def _include(path: Path, name: str, where: str, constraint: bool, reading: _Reading) -> None:
    if "://" in name:
        reading.content.append(without_credentials(name))
        return
    file = path.parent / name
    if file.resolve() in [other.resolve() for other in reading.files]:
        return
    reading.files.append(file)
    text = _read(file, where)
    reading.content.append(_significant(text))
    if constraint:
        reading.texts.append(text)
    else:
        _parse(file, text, reading)


def _add(path: Path, line: str, where: str, reading: _Reading) -> None:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    hashes = tuple(value.lower() for kind, value in _HASH.findall(line) if kind == "sha256")
    text = re.split(r"\s--[a-z]", line, maxsplit=1)[0].strip()
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        _add_local(path, text, where, reading, editable=False, hashes=hashes)
        return
    reading.lines.append(
        RequirementLine(
            where=where,
            text=text,
            name=canonicalize_name(requirement.name),
            requirement=requirement,
            hashes=hashes,
        )
    )


def _add_local(
    path: Path,
    text: str,
    where: str,
    reading: _Reading,
    *,
    editable: bool,
    hashes: tuple[str, ...] = (),
) -> None:
    """Note a path or URL; of a local folder, what decides its metadata counts as input."""
    place = re.sub(r"\[[^\]]*\]$", "", re.split(r"\s[;@]\s", text, maxsplit=1)[0].strip())
    local = None
    if "://" not in place or place.startswith("file://"):
        local = path.parent / place.removeprefix("file://")
        if local.is_dir():
            reading.content += _folder_content(local)
    egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", place)
    reading.lines.append(
        RequirementLine(
            where=where,
            text=text,
            name=_wheel_name(place) or (_canonical(egg[1]) if egg else None),
            hashes=hashes,
            editable=editable,
            local=local,
        )
    )


def _wheel_name(place: str) -> str | None:
    filename = place.partition("#")[0].rpartition("/")[2]
    return _canonical(filename.partition("-")[0]) if filename.endswith(".whl") else None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _folder_content(folder: Path) -> list[str]:
    found = []
    for name in _PROJECT_FILES:
        file = folder / name
        if file.is_file():
            found.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of the first line, text) with continuations joined and comments dropped."""
    parts: list[str] = []
    start = 1
    for number, raw in enumerate(text.splitlines(), 1):
        if not parts:
            start = number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            parts.append(raw[:-1])
            continue
        parts.append(raw)
        line = _COMMENT.sub("", " ".join(parts)).strip()
        parts = []
        if line:
            yield start, line
    if parts and (line := _COMMENT.sub("", " ".join(parts)).strip()):
        yield start, line


def _significant(text: str) -> str:
    return without_credentials(
        "\n".join(" ".join(line.split()) for _, line in _logical_lines(text))
    )


def _read_pyproject(
    source: DependencySource, extras: Sequence[str], groups: Sequence[str]
) -> Requirements:
    path = source.path
    text = _read(path, None)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ResolveError(
            f"the file is no valid TOML: {error}", where=path.name, hint="Mend that line."
        ) from error
    project = document.get("project")
    if not isinstance(project, dict) and "build-system" not in document:
        raise ResolveError(
            "there is no [project] table that says what the project depends on",
            where=path.name,
            hint="Add [project] with dependencies, or name a requirements file.",
        )
    project = project if isinstance(project, dict) else {}
    known_groups = document.get("dependency-groups", {})
    for group in groups:
        if _canonical(group) not in map(_canonical, known_groups):
            raise _unknown("dependency group", group, known_groups, path)
    optional = project.get("optional-dependencies", {})
    dynamic = project.get("dynamic", []) if project else ["dependencies"]
    for extra in extras:
        if _canonical(extra) not in map(_canonical, optional) and not (
            "optional-dependencies" in dynamic or not project
        ):
            raise _unknown("extra", extra, optional, path)
    wanted = list(_strings(project.get("dependencies")))
    for name, values in optional.items():
        if _canonical(name) in map(_canonical, extras):
            wanted += _strings(values)
    for group in groups:
        wanted += _group(group, known_groups, ())
    reading = _Reading(path.parent)
    for item in wanted:
        number = _line_of(text, item)
        _add(path, item, path.name if number is None else f"{path.name}:{number}", reading)
        reading.texts.append(item)
    tool = document.get("tool", {})
    relevant: dict[str, Any] = {
        "project": {
            key: project.get(key)
            for key in (
                "name",
                "dependencies",
                "optional-dependencies",
                "requires-python",
                "dynamic",
            )
        },
        "groups": known_groups,
        "uv": tool.get("uv"),
    }
    content = [*reading.content]
    if set(dynamic) & {"dependencies", "optional-dependencies"}:
        relevant["tool"] = {key: value for key, value in tool.items() if key != "dockyard"}
        beside = sorted(path.parent.glob("*requirements*.txt"))
        for file in [*beside, path.parent / "setup.py", path.parent / "setup.cfg"]:
            if file.is_file():
                content.append(hashlib.sha256(file.read_bytes()).hexdigest())
    content.insert(0, without_credentials(json.dumps(relevant, sort_keys=True, default=str)))
    return Requirements(
        source=source,
        lines=tuple(reading.lines),
        files=(path,),
        content=(*content, *sorted(extras), "groups", *sorted(groups)),
        credentials=reading.credentials() + Credentials.of(find_urls(text)),
    )


def _locked_names(source: DependencySource) -> tuple[RequirementLine, ...]:
    """The direct dependencies of the project that a uv.lock is for."""
    text = _read(source.path, None)
    try:
        packages = tomllib.loads(text).get("package", [])
    except tomllib.TOMLDecodeError as error:
        raise ResolveError(
            f"the lock is no valid TOML: {error}", where=source.path.name, hint="Run `uv lock`."
        ) from error
    names: dict[str, None] = {}
    for package in packages:
        place = package.get("source", {})
        if "." not in (place.get("virtual"), place.get("editable")):
            continue
        tables = [package.get("dependencies", [])]
        tables += package.get("optional-dependencies", {}).values()
        tables += package.get("dev-dependencies", {}).values()
        names |= {item["name"]: None for table in tables for item in table if "name" in item}
    return tuple(
        RequirementLine(where=source.path.name, text=name, name=_canonical(name)) for name in names
    )


def _unknown(what: str, name: str, known: Any, path: Path) -> ResolveError:
    names = ", ".join(known) or "none"
    return ResolveError(
        f"the project has no {what} {name!r}", where=path.name, hint=f"There are: {names}."
    )


def _group(name: str, groups: Any, above: tuple[str, ...]) -> list[str]:
    """The requirements of a dependency group, includes followed (PEP 735)."""
    found: list[str] = []
    for key, items in groups.items():
        if _canonical(key) != _canonical(name) or key in above:
            continue
        for item in items if isinstance(items, list) else []:
            if isinstance(item, str):
                found.append(item)
            elif isinstance(item, dict) and isinstance(item.get("include-group"), str):
                found += _group(item["include-group"], groups, (*above, key))
    return found


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _line_of(text: str, item: str) -> int | None:
    for number, line in enumerate(text.splitlines(), 1):
        if item in line or item.replace('"', '\\"') in line:
            return number
    return None


def _shown(path: Path, root: Path) -> str:
    try:
        return str(path.resolve().relative_to(root.resolve()))
    except ValueError:
        return str(path)


def _read(path: Path, where: str | None) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise ResolveError(
            f"{path.name} can't be read: {reason}",
            where=where or str(path),
            hint="Name a readable text file.",
        ) from error
