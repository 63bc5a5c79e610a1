"""Does a wheel fit the image: its Python, its architecture and the C library of the base?

Rules:
- The image's target is asked, never the host: it knows the tags that fit (PEP 425, PEP 600).
- A wheel that doesn't fit is an error that says which of its needs isn't met, before anything is
  built. glibc is the one that bites: the wheel installs, and fails at its first import.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from dockyard.errors import WheelError

if TYPE_CHECKING:
    from packaging.tags import Tag

    from dockyard.wheels.target import Target

# PEP 513, 571, 599: the names before PEP 600, and the glibc that each means.
_OLD_NAMES: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_PLATFORM = re.compile(
    r"(?:manylinux_(?P<major>\d+)_(?P<minor>\d+)|(?P<old>manylinux1|manylinux2010|manylinux2014)"
    r"|(?P<linux>linux)|(?P<musl>musllinux_\d+_\d+))_(?P<machine>\w+)"
)


def check_fits(filename: str, target: Target) -> None:
    """Raise WheelError, with the reason, unless the wheel named `filename` runs on `target`."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelError(
            "the file's name is no wheel's",
            where=filename,
            hint="A wheel is named NAME-VERSION-PYTHON-ABI-PLATFORM.whl; restore its own name.",
        ) from error
    supported = target.tags()
    if not tags.isdisjoint(supported):
        return
    # The reason is that of the tag that comes nearest: the platform alone is wrong, or the Python.
    anywhere = {(tag.interpreter, tag.abi) for tag in supported}
    here = [tag for tag in tags if (tag.interpreter, tag.abi) in anywhere]
    if not here:
        raise _wrong_python(filename, tags, target.minor)
    raise _wrong_platform(filename, sorted({tag.platform for tag in here}), target)


def _wrong_python(filename: str, tags: frozenset[Tag], python: str) -> WheelError:
    names = sorted({f"{tag.interpreter}-{tag.abi}" for tag in tags})
    free_threaded = all(re.fullmatch(r"cp\d+t", tag.abi) for tag in tags)
    what = "free-threaded Python" if free_threaded else "another Python"
    return WheelError(
        f"the wheel is for {what} ({', '.join(names)}); the image has Python {python}",
        where=filename,
        hint="Lock again for the image's Python, or set `python` to one that the wheel fits.",
    )


def _wrong_platform(filename: str, names: list[str], target: Target) -> WheelError:
    needs: list[tuple[int, int]] = []
    reasons: list[str] = []
    for name in names:
        match = _PLATFORM.fullmatch(name)
        if match is None:
            reasons.append(_foreign(name))
        elif match["machine"] != target.machine:
            reasons.append(f"it is for {match['machine']}, the image is for {target.architecture}")
        elif match["musl"]:
            reasons.append("it is linked with musl (Alpine), the image's base has glibc")
        else:
            version = _glibc_of(name)
            if version is not None:
                needs.append(version)
    if needs:
        need = "{}.{}".format(*min(needs))
        return WheelError(
            f"the wheel needs glibc {need} or newer; the image's base has {target.glibc}",
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
