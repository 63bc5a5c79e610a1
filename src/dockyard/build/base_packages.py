"""The packages that a base's Python has: where it looks for them, and what is installed there.

Rules:
- Read from the files as they lie (`*.dist-info`, `*.egg-info`); nothing of the base is run.
- The folders are those that CPython's `site` adds for the interpreter's prefix, and Debian's
  `dist-packages` for the system's own Python. Where two folders have a distribution, the one that
  is searched first counts.
- What only installs others (pip, setuptools, wheel) isn't a reason to see the base's packages.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from dockyard.wheels.provided import ProvidedDistribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockyard.oci.tree import ImageTree

INSTALLERS = frozenset({"pip", "setuptools", "wheel", "distribute"})
_METADATA = re.compile(r"(?P<site>.+)/[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)")
_VENV = "opt/venv"


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePackages:
    """What one of the base's Pythons has.

    version: "3.12.4", None where it can't be told; sites: folders, the first searched first;
    distributions: without those that only install others; scripts: a command's name to its
    distribution and entry point; own_venv: whether they lie in a virtual environment at /opt/venv,
    where ours is too.
    """

    version: str | None
    sites: tuple[str, ...]
    distributions: tuple[ProvidedDistribution, ...]
    scripts: Mapping[str, tuple[str, str]]
    own_venv: bool = False

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "version": self.version,
            "sites": list(self.sites),
            "distributions": [item.to_record() for item in self.distributions],
            "scripts": dict(self.scripts),
            "own_venv": self.own_venv,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BasePackages:
        """Read what `to_record` gave."""
        return cls(
            version=record["version"],
            sites=tuple(record["sites"]),
            distributions=tuple(map(ProvidedDistribution.from_record, record["distributions"])),
            scripts={name: (owner, value) for name, (owner, value) in record["scripts"].items()},
            own_venv=record["own_venv"],
        )


def read_packages(tree: ImageTree, interpreter: str) -> BasePackages:
    """Find what the Python at `interpreter`, a path in the image, has; reads two passes at most."""
    sites = _sites(tree, interpreter)
    own_venv = bool(sites) and sites[0].startswith(f"{_VENV}/")
    metadata: dict[str, tuple[int, str]] = {}
    for path in tree.files:
        match = _METADATA.fullmatch(path)
        if match and match["site"] in sites and tree.files[path].kind != "directory":
            metadata[path] = (sites.index(match["site"]), match["site"])
    entries = {
        path: posixpath.join(posixpath.dirname(path), "entry_points.txt")
        for path in metadata
        if not path.endswith(".egg-info")
    }
    programs = _programs(tree, interpreter)
    contents = tree.read_all([*metadata, *entries.values(), *programs], max_size=64 << 20)
    found: dict[str, ProvidedDistribution] = {}
    scripts: dict[str, tuple[str, str]] = {}
    for path in sorted(metadata, key=lambda path: (metadata[path][0], path)):
        item = read_distribution(contents.get(path, b""))
        if item is None or item.name in found or item.name in INSTALLERS:
            continue
        found[item.name] = item
        if not own_venv:
            points = _scripts(contents.get(entries.get(path, "")), path, interpreter)
            scripts |= {name: (item.name, value) for name, value in points.items()}
    return BasePackages(
        version=_version([contents[path] for path in programs if path in contents], interpreter),
        sites=tuple(sites),
        distributions=tuple(found[name] for name in sorted(found)),
        scripts=dict(sorted(scripts.items())),
        own_venv=own_venv,
    )


def _minor(interpreter: str) -> str:
    return posixpath.basename(interpreter).removeprefix("python")


def _sites(tree: ImageTree, interpreter: str) -> list[str]:
    """The folders that are there, in the order in which they are searched."""
    prefix = posixpath.dirname(posixpath.dirname(interpreter))
    minor = _minor(interpreter)
    system = [f"{prefix}/{lib}/python{minor}/site-packages" for lib in ("lib", "lib64")]
    if prefix == "usr":
        system += [f"usr/local/lib/python{minor}/dist-packages", "usr/lib/python3/dist-packages"]
        system.append(f"usr/lib/python{minor}/dist-packages")
    own = tree.read(f"{_VENV}/pyvenv.cfg")
    venv = f"{_VENV}/lib/python{minor}/site-packages"
    if own is not None and venv in tree.files:
        sees = re.search(rb"(?im)^include-system-site-packages\s*=\s*true\s*$", own)
        system = [venv, *(system if sees else ())]
    found = {tree.resolve(site): None for site in system}
    return [site for site in found if site is not None]


def _programs(tree: ImageTree, interpreter: str) -> list[str]:
    """The files that may say the full version: a header, the interpreter, its shared library."""
    prefix = posixpath.dirname(posixpath.dirname(interpreter))
    minor = _minor(interpreter)
    library = re.compile(
        rf"{re.escape(prefix)}/lib/(?:[^/]+-linux-gnu/)?libpython{re.escape(minor)}\.so\.1\.0"
    )
    found = [f"{prefix}/include/python{minor}/patchlevel.h", tree.resolve(interpreter)]
    found += [path for path in tree.files if library.fullmatch(path)]
    return [path for path in found if path is not None and path in tree.files]


def _version(programs: Sequence[bytes], interpreter: str) -> str | None:
    """PY_VERSION: the header's, else where the compiler left it as a C string of its own."""
    minor = re.escape(_minor(interpreter)).encode()
    defined = rb'#define\s+PY_VERSION\s+"(' + minor + rb'\.\d+(?:rc\d+)?)"'
    pattern = re.compile(defined + rb"|\0(" + minor + rb"\.\d+(?:rc\d+)?)\0")
    for data in programs:
        if match := pattern.search(data):
            return (match[1] or match[2]).decode()
    return None


def read_distribution(data: bytes) -> ProvidedDistribution | None:
    """What a METADATA file says; None when it names no distribution."""
    headers = HeaderParser().parsestr(data.decode("utf-8", "replace"), headersonly=True)
    name, version = headers["Name"], headers["Version"]
    if not name or not version:
        return None
    return ProvidedDistribution(
        name=canonicalize_name(name.strip()),
        version=version.strip(),
        requires=_all(headers.get_all("Requires-Dist")),
        extras=_all(headers.get_all("Provides-Extra")),
    )


def _all(values: Iterable[Any] | None) -> tuple[str, ...]:
    return tuple(" ".join(str(value).split()) for value in values or ())


def _scripts(data: bytes | None, path: str, interpreter: str) -> dict[str, str]:
    """The console scripts of one distribution; what breaks the format is as good as absent."""
    if data is None:
        return {}
    from dockyard.errors import WheelError
    from dockyard.wheels.scripts import parse_entry_points, plan_scripts, script_text

    try:
        text = data.decode("utf-8", "replace")
        planned = plan_scripts(
            parse_entry_points(text, where=path), python=_minor(interpreter), where=path
        )
        found = list(planned)
        for point in found:
            script_text(point, "/", where=path)
    except WheelError:
        return {}
    return {point.name: point.value for point in found}
