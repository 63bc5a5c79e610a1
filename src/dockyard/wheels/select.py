"""From a lock document (PEP 751) to the files of one platform.

Rules:
- Choosing is packaging's affair (`Pylock.select`), with the target's tags and markers, never
  those of the host.
- Hashes that the requirements demand narrow the choice first: a file outside them is as good as
  absent.
- Wheels of local indexes carry no size; it is read from the file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.errors import ResolveError
from dockyard.fetch import local_path
from dockyard.wheels.accelerator import cuda_version
from dockyard.wheels.direct_url import archive_direct_url
from dockyard.wheels.editable import needs_compiler
from dockyard.wheels.lock import EditableProject, Lock, LockedSource, LockedWheel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.pylock import Package

    from dockyard.wheels.credentials import Credentials
    from dockyard.wheels.requirement import Requirements
    from dockyard.wheels.target import Target


def select_lock(
    document: Mapping[str, Any],
    *,
    target: Target,
    requested: frozenset[str],
    credentials: Credentials,
    inputs: str,
    where: str,
    root: Path,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    demanded: Mapping[str, frozenset[str]] | None = None,
    extra: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Lock:
    """Select from `document` (paths absolute) what the target needs.

    requested: names asked for directly; demanded: SHA-256 hashes by name; root: the app's folder,
    outside of which nothing can stay editable; where: the lock's name, for messages. Raises
    ResolveError when the document is invalid or has no file for this target.
    """
    from packaging.pylock import (
        PackageArchive,
        PackageDirectory,
        PackageSdist,
        PackageVcs,
        PackageWheel,
        Pylock,
        PylockSelectError,
        PylockUnsupportedVersionError,
        PylockValidationError,
    )

    narrowed = _narrow(document, demanded or {}, where)
    try:
        pylock = Pylock.from_dict(narrowed)
        chosen = list(
            pylock.select(
                environment=target.environment(),
                tags=target.tags(),
                extras=frozenset(extras) & frozenset(pylock.extras or ()),
                dependency_groups=_groups(pylock.dependency_groups, pylock.default_groups, groups),
            )
        )
    except PylockUnsupportedVersionError as error:
        raise ResolveError(
            f"this lock's format isn't supported: {error}",
            where=where,
            hint="Write it anew with `dockyard lock`.",
        ) from error
    except PylockValidationError as error:
        raise ResolveError(
            f"the lock breaks its format (PEP 751): {error}",
            where=where,
            hint="Write it anew with `dockyard lock`.",
        ) from error
    except PylockSelectError as error:
        raise _unselectable(str(error), target, where) from error
    wheels: list[LockedWheel] = []
    sources: list[LockedSource] = []
    editables: list[EditableProject] = []
    for package, thing in chosen:
        asked = package.name in requested
        match thing:
            case PackageWheel():
                wheels.append(_wheel(package, thing, asked, credentials, where))
            case PackageArchive() if _is_wheel(thing.path or thing.url):
                wheels.append(_wheel(package, thing, asked, credentials, where))
            case PackageSdist() | PackageArchive():
                sources.append(
                    LockedSource(
                        form="sdist" if isinstance(thing, PackageSdist) else "archive",
                        name=package.name,
                        version=_version(package),
                        url=_place(thing, credentials),
                        filename=_filename(thing),
                        sha256=thing.hashes.get("sha256"),
                        size=thing.size,
                        subdirectory=getattr(thing, "subdirectory", None),
                        requested=asked,
                    )
                )
            case PackageVcs():
                sources.append(
                    LockedSource(
                        form="vcs",
                        name=package.name,
                        version=_version(package),
                        url=_place(thing, credentials),
                        vcs=thing.type,
                        requested_revision=thing.requested_revision,
                        commit=thing.commit_id,
                        subdirectory=thing.subdirectory,
                        requested=asked,
                    )
                )
            case PackageDirectory():
                folder = Path(thing.path, thing.subdirectory or ".").resolve()
                if _stays(folder, root, editable=bool(thing.editable)):
                    editables.append(
                        EditableProject(
                            name=package.name,
                            version=_version(package),
                            path=folder,
                            requested=asked,
                        )
                    )
                else:
                    sources.append(
                        LockedSource(
                            form="directory",
                            name=package.name,
                            version=_version(package),
                            url=str(folder),
                            requested=asked,
                        )
                    )
    wheels.sort(key=lambda wheel: wheel.name)
    return Lock(
        python=target.python,
        architecture=target.architecture,
        glibc=target.glibc,
        wheels=tuple(wheels),
        sources=tuple(sorted(sources, key=lambda source: source.name)),
        editables=tuple(sorted(editables, key=lambda project: project.name)),
        inputs=inputs,
        document=document,
        extra=extra or {},
        cuda=cuda_version(wheels),
        notes=tuple(notes),
    )


def _stays(folder: Path, root: Path, *, editable: bool) -> bool:
    """Whether a project is used in place: asked for, part of the app, nothing to compile."""
    return editable and folder.is_relative_to(root.resolve()) and not needs_compiler(folder)


def demanded_hashes(requirements: Requirements) -> dict[str, frozenset[str]]:
    """The SHA-256 hashes that the requirements demand, by package name."""
    return {
        line.name: frozenset(line.hashes)
        for line in requirements.lines
        if line.name and line.hashes
    }


def _groups(
    known: Sequence[str] | None, default: Sequence[str] | None, wanted: Sequence[str]
) -> frozenset[str]:
    return frozenset(default or ()) | (frozenset(wanted) & frozenset(known or ()))


def _narrow(
    document: Mapping[str, Any], demanded: Mapping[str, frozenset[str]], where: str
) -> dict[str, Any]:
    packages = []
    for package in document.get("packages", ()) if demanded else ():
        hashes = demanded.get(package.get("name", ""))
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        if not hashes or not files:
            packages.append(package)
            continue
        kept = [file for file in files if file.get("hashes", {}).get("sha256") in hashes]
        if not kept:
            raise ResolveError(
                f"no file of {package['name']} {package.get('version', '')} has a hash that the "
                "requirements demand",
                where=where,
                hint="Update the --hash options, or the index that serves these files.",
            )
        rest = {key: value for key, value in package.items() if key not in ("wheels", "sdist")}
        wheels = [file for file in kept if file is not package.get("sdist")]
        if wheels:
            rest["wheels"] = wheels
        if package.get("sdist") in kept:
            rest["sdist"] = package["sdist"]
        packages.append(rest)
    return {**document, "packages": packages} if demanded else dict(document)


def _wheel(
    package: Package, thing: Any, asked: bool, credentials: Credentials, where: str
) -> LockedWheel:
    url = _place(thing, credentials)
    filename = _filename(thing)
    file = local_path(url)
    sha256 = thing.hashes.get("sha256")
    size = thing.size
    if file is not None:
        try:
            size = file.stat().st_size
            if sha256 is None:
                with file.open("rb") as opened:
                    sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise ResolveError(
                f"the wheel of {package.name} can't be read: {error.strerror}",
                where=str(file),
                hint="Put it back, or resolve anew with `dockyard lock --upgrade`.",
            ) from error
    if sha256 is None:
        raise ResolveError(
            f"the lock gives no SHA-256 for {filename}",
            where=where,
            hint="Write it anew with `dockyard lock`.",
        )
    version = _version(package) or filename.split("-")[1]
    is_direct = package.archive is not None
    return LockedWheel(
        name=package.name,
        version=version,
        filename=filename,
        sha256=sha256.lower(),
        size=size,
        url=url,
        requested=asked,
        direct_url=archive_direct_url(url, sha256.lower()) if is_direct else None,
    )


def _version(package: Package) -> str | None:
    return None if package.version is None else str(package.version)


def _is_wheel(place: str | None) -> bool:
    return (place or "").partition("#")[0].endswith(".whl")


def _filename(thing: Any) -> str:
    from urllib.parse import unquote, urlsplit

    name = getattr(thing, "name", None)
    if name:
        return str(name)
    place = thing.path or urlsplit(thing.url).path
    base = str(place).rpartition("/")[2]
    return base if thing.path else unquote(base)


def _place(thing: Any, credentials: Credentials) -> str:
    return str(thing.path) if thing.path else credentials.authorize(str(thing.url))


def _unselectable(text: str, target: Target, where: str) -> ResolveError:
    if found := re.search(r"No wheel found .* for package '([^']+)'", text):
        return ResolveError(
            f"the lock has no wheel of {found[1]} for {target}",
            where=where,
            hint="Write it anew for this platform with `dockyard lock`.",
        )
    if "does not satisfy" in text and "Python version" in text:
        asked = re.search(r"requirement '([^']+)'", text)
        return ResolveError(
            f"the lock is for Python {asked[1] if asked else 'versions other than this'}, "
            f"the image has {target.python}",
            where=where,
            hint="Write it anew with `dockyard lock`, or set python in dockyard.toml.",
        )
    if "any of the environments" in text:
        return ResolveError(
            f"the lock isn't for linux/{target.architecture}",
            where=where,
            hint="Write it anew for this platform with `dockyard lock`.",
        )
    return ResolveError(
        f"the lock can't be used: {text}", where=where, hint="Write it anew with `dockyard lock`."
    )
