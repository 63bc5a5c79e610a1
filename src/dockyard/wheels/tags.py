"""Does a wheel fit the image: its Python, its architecture and the C library of the base?

Rules:
- The image is asked, never the host: Python minor, architecture ("amd64", "arm64") and glibc
  version are given, and the tags that fit are made from them (PEP 425, PEP 600).
- A wheel that doesn't fit is an error that says which of its needs isn't met, before anything is
  built. glibc is the one that bites: the wheel installs, and fails at its first import.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from dockyard.errors import WheelError

_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}

# PEP 513, 571, 599: the names before PEP 600, and the glibc that each means.
_OLD_NAMES: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
# No manylinux before these: PEP 513 for x86-64, PEP 599 for the others.
_OLDEST: Final = {"amd64": (2, 5), "arm64": (2, 17)}

_PLATFORM = re.compile(
    r"(?:manylinux_(?P<major>\d+)_(?P<minor>\d+)|(?P<old>manylinux1|manylinux2010|manylinux2014)"
    r"|(?P<linux>linux)|(?P<musl>musllinux_\d+_\d+))_(?P<machine>\w+)"
)


def platforms(architecture: str, glibc: str) -> list[str]:
    """Return the platform tags that run there, best first; raises WheelError for a bad version."""
    machine = _machine(architecture)
    major, minor = _version(glibc)
    oldest = _OLDEST[architecture]
    found = []
    for step in range(minor, oldest[1] - 1, -1):
        found.append(f"manylinux_{major}_{step}_{machine}")
        found += [
            f"{name}_{machine}" for name, version in _OLD_NAMES.items() if version == (major, step)
        ]
    return [*found, f"linux_{machine}"]


@lru_cache(maxsize=16)
def supported_tags(python: str, architecture: str, glibc: str) -> tuple[Tag, ...]:
    """Return the tags that fit, best first, as pip would order them on that machine.

    python: "3.11"; architecture: "amd64" or "arm64"; glibc: "2.36".
    """
    version = _version(python)
    names = platforms(architecture, glibc)
    interpreter = f"cp{version[0]}{version[1]}"
    return (
        *cpython_tags(version, abis=[interpreter], platforms=names),
        *compatible_tags(version, interpreter=interpreter, platforms=names),
    )


def check_fits(filename: str, *, python: str, architecture: str, glibc: str) -> None:
    """Raise WheelError, with the reason, unless the wheel named `filename` runs in the image."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelError(
            "the file's name is no wheel's",
            where=filename,
            hint="A wheel is named NAME-VERSION-PYTHON-ABI-PLATFORM.whl; restore its own name.",
        ) from error
    if not tags.isdisjoint(supported_tags(python, architecture, glibc)):
        return
    # The reason is that of the tag that comes nearest: the platform alone is wrong, or the Python.
    anywhere = {(tag.interpreter, tag.abi) for tag in supported_tags(python, architecture, glibc)}
    here = [tag for tag in tags if (tag.interpreter, tag.abi) in anywhere]
    if not here:
        raise _wrong_python(filename, tags, python)
    raise _wrong_platform(filename, sorted({tag.platform for tag in here}), architecture, glibc)


def needed_glibc(filename: str) -> str | None:
    """Return the oldest glibc ("2.28") that the wheel's name asks for, None if it asks for none."""
    tags = parse_wheel_filename(filename)[3]
    found = [version for tag in tags if (version := _glibc_of(tag.platform)) is not None]
    return "{}.{}".format(*min(found)) if found else None


def _wrong_python(filename: str, tags: frozenset[Tag], python: str) -> WheelError:
    names = sorted({f"{tag.interpreter}-{tag.abi}" for tag in tags})
    free_threaded = all(re.fullmatch(r"cp\d+t", tag.abi) for tag in tags)
    what = "free-threaded Python" if free_threaded else "another Python"
    return WheelError(
        f"the wheel is for {what} ({', '.join(names)}); the image has Python {python}",
        where=filename,
        hint="Lock again for the image's Python, or set `python` to one that the wheel fits.",
    )


def _wrong_platform(filename: str, names: list[str], architecture: str, glibc: str) -> WheelError:
    machine = _machine(architecture)
    needs: list[tuple[int, int]] = []
    reasons: list[str] = []
    for name in names:
        match = _PLATFORM.fullmatch(name)
        if match is None:
            reasons.append(_foreign(name))
        elif match["machine"] != machine:
            reasons.append(f"it is for {match['machine']}, the image is for {architecture}")
        elif match["musl"]:
            reasons.append("it is linked with musl (Alpine), the image's base has glibc")
        else:
            version = _glibc_of(name)
            if version is not None:
                needs.append(version)
    if needs:
        need = "{}.{}".format(*min(needs))
        return WheelError(
            f"the wheel needs glibc {need} or newer; the image's base has {glibc}",
            where=filename,
            hint="Choose a newer base (Debian trixie has glibc 2.41), or pin an older version"
            " of this package.",
        )
    return WheelError(
        f"the wheel doesn't fit: {'; '.join(dict.fromkeys(reasons))}",
        where=filename,
        hint="Lock again for the image's platform.",
    )


def _foreign(platform: str) -> str:
    for prefix, system in (
        ("macosx", "macOS"), ("win", "Windows"), ("ios", "iOS"), ("android", "Android"),
    ):  # fmt: skip
        if platform.startswith(prefix):
            return f"it is for {system}, the image is Linux"
    return f"its platform {platform!r} isn't known"


def _glibc_of(platform: str) -> tuple[int, int] | None:
    match = _PLATFORM.fullmatch(platform)
    if match is None:
        return None
    if match["old"]:
        return _OLD_NAMES[match["old"]]
    return (int(match["major"]), int(match["minor"])) if match["major"] else None


def _machine(architecture: str) -> str:
    try:
        return _MACHINES[architecture]
    except KeyError:
        raise WheelError(
            f"no wheels are known for the architecture {architecture!r}",
            hint=f"Build for one of: {', '.join(_MACHINES)}.",
        ) from None


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise WheelError(f"{text!r} is no version", hint="Write it as X.Y.")
    return int(match[1]), int(match[2])
