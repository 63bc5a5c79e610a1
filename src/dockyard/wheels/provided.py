"""Distributions that the base has already: which stay, and how the resolver is told of them.

Rules:
- What a resolution gives at the version that the base has isn't installed again. A version without
  a local part is met by the base's build of it: torch 2.4.0 by 2.4.0+cu124.
- Frameworks, what goes with them, and builds that no index has (local versions) are *anchors*: the
  resolver is held to them, so that what depends on torch is chosen for the base's torch. Of
  everything else the base's version is only preferred, as pip prefers what is installed.
- A requirement of the project that the base's version doesn't meet wins over the base. Then what
  the base has together with it (torchvision with torch) holds no longer, either.
- The resolver sees the base's distributions as wheels of metadata alone, because an index may not
  have them. They never become part of an image.
- CUDA's `nvidia-*` wheels are found by paths relative to the library that needs them, so the base's
  count only where something else that stays depends on them.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from dockyard.errors import ResolveError
from dockyard.wheels.accelerator import TORCH_FAMILY, cuda_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.wheels.lock import Lock
    from dockyard.wheels.requirement import Requirements
    from dockyard.wheels.target import Target

_ANCHORS = frozenset(
    {*TORCH_FAMILY, "triton", "pytorch-triton", "tensorflow", "keras", "jax", "jaxlib"}
)
_CUDA_LIBRARY = re.compile(r"nvidia-")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidedDistribution:
    """A distribution in the base. name: normalised; requires: its Requires-Dist lines."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "requires": list(self.requires),
            "extras": list(self.extras),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProvidedDistribution:
        """Read what `to_record` gave."""
        return cls(
            name=record["name"],
            version=record["version"],
            requires=tuple(record["requires"]),
            extras=tuple(record["extras"]),
        )

    @property
    def is_anchor(self) -> bool:
        """Whether what depends on it is chosen for it."""
        local = "+" in self.version
        return self.name in _ANCHORS or local or _CUDA_LIBRARY.match(self.name) is not None

    def meets(self, version: str) -> bool:
        """Whether this is that version, or a local build of it."""
        try:
            mine, wanted = Version(self.version), Version(version)
        except InvalidVersion:
            return self.version == version
        return mine == wanted or (wanted.local is None and mine.public == wanted.public)


def held(
    provided: Sequence[ProvidedDistribution], requirements: Requirements, target: Target
) -> tuple[list[ProvidedDistribution], list[str]]:
    """The anchors that the resolver is held to; and sentences on those that the project overrides.

    An anchor that depends on an overridden one, or that an overridden one depends on, goes too.
    """
    anchors = {item.name: item for item in provided if item.is_anchor}
    environment = cast("dict[str, str]", target.environment())
    notes: dict[str, str] = {}
    for line in requirements.lines:
        asked, item = line.requirement, anchors.get(line.name or "")
        if asked is None or item is None:
            continue
        if asked.marker is not None and not asked.marker.evaluate({**environment, "extra": ""}):
            continue
        if asked.url is not None or not asked.specifier.contains(item.version, prereleases=True):
            wish = asked.url or f"{item.name}{asked.specifier}"
            notes[item.name] = (
                f"the base's {item.name} {item.version} isn't used: {line.where} asks for {wish}"
            )
    gone = set(notes)
    links = {name: set(_required(item, anchors)) for name, item in anchors.items()}
    while True:
        more = {
            name
            for name, needs in links.items()
            if name not in gone and (needs & gone or any(name in links[other] for other in gone))
        }
        if not more:
            break
        gone |= more
    return [item for name, item in anchors.items() if name not in gone], list(notes.values())


def _required(
    item: ProvidedDistribution, among: Collection[str], *, environment: Any = None
) -> Iterator[str]:
    for text in item.requires:
        try:
            needed = Requirement(text)
        except InvalidRequirement:
            continue
        name = canonicalize_name(needed.name)
        if name in among and (
            environment is None
            or needed.marker is None
            or needed.marker.evaluate({**environment, "extra": ""})
        ):
            yield name


def without_provided(lock: Lock, provided: Sequence[ProvidedDistribution]) -> Lock:
    """The lock without what the base has, which it then names in `from_base`."""
    if not provided:
        return lock
    have = {item.name: item for item in provided}
    same = {
        name
        for name, version in _versions(lock).items()
        if name in have and have[name].meets(version)
    }
    # Where this very file or folder was asked for, another of its version won't do.
    same -= {wheel.name for wheel in lock.wheels if wheel.direct_url is not None}
    same -= {source.name for source in lock.sources if source.form != "sdist"}
    libraries = {name for name in same if _CUDA_LIBRARY.match(name)}
    needed = {other for name in same - libraries for other in _required(have[name], libraries)}
    while True:  # libraries that such libraries need
        more = {other for name in needed for other in _required(have[name], libraries)} - needed
        if not more:
            break
        needed |= more
    kept = (same - libraries) | needed
    wheels = tuple(wheel for wheel in lock.wheels if wheel.name not in kept)
    return replace(
        lock,
        wheels=wheels,
        sources=tuple(source for source in lock.sources if source.name not in kept),
        cuda=cuda_version(wheels),
        from_base=tuple(sorted((have[name] for name in kept), key=lambda item: item.name)),
    )


def _versions(lock: Lock) -> dict[str, str]:
    """What is to be installed, by name."""
    found = {source.name: source.version for source in lock.sources if source.version}
    return found | {wheel.name: wheel.version for wheel in lock.wheels}


def broken_by(lock: Lock, provided: Sequence[ProvidedDistribution], target: Target) -> list[str]:
    """What the base's own distributions no longer find as they need it: one sentence each."""
    kept = {item.name for item in lock.from_base}
    added = _versions(lock)
    environment = cast("dict[str, str]", target.environment())
    found = []
    for item in provided:
        if item.name in added and item.name not in kept:
            continue
        for text in item.requires:
            try:
                needed = Requirement(text)
            except InvalidRequirement:
                continue
            version = added.get(canonicalize_name(needed.name))
            if version is None or needed.specifier.contains(version, prereleases=True):
                continue
            if needed.marker and not needed.marker.evaluate({**environment, "extra": ""}):
                continue
            found.append(
                f"the base's {item.name} {item.version} needs {needed.name}{needed.specifier}, "
                f"and the image has {needed.name} {version}"
            )
    return found


def against_base(free: Lock, held_to: Sequence[ProvidedDistribution], where: str) -> ResolveError:
    """The error of a project that can be resolved, but not with what the base has.

    free: what it resolves to without the base.
    """
    versions = _versions(free)
    others = [
        (item, version)
        for item in held_to
        if (version := versions.get(item.name)) is not None and not item.meets(version)
    ]
    if not others:
        others = [(item, versions.get(item.name) or "another version") for item in held_to[:1]]
    item, version = others[0]
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    return ResolveError(
        f"the base has {item.name} {item.version}, and what the project asks for goes only with "
        f"others, such as {item.name} {version}{more}",
        where=where,
        hint=f"Ask for versions that go with {item.name} {item.version}, choose another base, or "
        f"have it replaced by naming it: {item.name}=={version}",
    )


def preferences(provided: Iterable[ProvidedDistribution]) -> str:
    """The versions as a pylock.toml, which uv takes as preferences."""
    lines = ['lock-version = "1.0"', 'created-by = "dockyard"']
    for item in provided:
        lines.append(f'\n[[packages]]\nname = "{item.name}"\nversion = "{item.version}"')
        stub = f'{{ name = "{stub_name(item)}", url = "https://base.invalid/{stub_name(item)}",'
        lines.append(f'wheels = [{stub} hashes = {{ sha256 = "{"0" * 64}" }} }}]')
    return "\n".join(lines) + "\n"


def stub_name(item: ProvidedDistribution) -> str:
    """The file name of the wheel that stands for a distribution of the base."""
    return f"{item.name.replace('-', '_')}-{item.version}-py3-none-any.whl"


def stub_folder(provided: Sequence[ProvidedDistribution], cache: Cache) -> Path:
    """A folder, in the cache, of wheels that hold only the metadata of these distributions."""
    facts = json.dumps([item.to_record() for item in provided], sort_keys=True)
    folder = cache.root / "provided" / hashlib.sha256(facts.encode()).hexdigest()[:24]
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for item in provided:
        with cache.temporary() as path:
            _write_stub(item, path)
            path.chmod(0o644)
            path.replace(folder / stub_name(item))
    (folder / "complete").touch()
    return folder


def _write_stub(item: ProvidedDistribution, path: Path) -> None:
    info = f"{item.name.replace('-', '_')}-{item.version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {item.name}", f"Version: {item.version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in item.extras]
    metadata += [f"Requires-Dist: {line}" for line in item.requires]
    files = {
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as out:
        for name, text in files.items():
            out.writestr(zipfile.ZipInfo(name), text)
