"""What a wheel says of itself: its `.dist-info` folder, WHEEL and METADATA.

Rules: there is exactly one `.dist-info` folder; its name, the file's name and METADATA agree on
project and version; a Wheel-Version above 1 is refused, as the specification asks of installers.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.parser import Parser
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from dockyard.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.wheels.splice import Member, WheelFile

_MAJOR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMetadata:
    """The parsed metadata; name is normalized (PEP 503), version as METADATA spells it."""

    name: str
    version: str
    dist_info: str
    purelib: bool
    tags: tuple[str, ...]
    requires_python: str | None
    requires_dist: tuple[str, ...]
    provides_extra: tuple[str, ...]
    license: str | None
    summary: str | None
    home_page: str | None


def read_metadata(wheel: WheelFile, members: Mapping[str, Member]) -> WheelMetadata:
    """Read a wheel's metadata; `members` are its members by name. Raises WheelError."""
    where = wheel.filename
    try:
        named, named_version, _, _ = parse_wheel_filename(where)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelError(
            "the file's name is no wheel's",
            where=where,
            hint="A wheel is named NAME-VERSION-PYTHON-ABI-PLATFORM.whl; restore its own name.",
        ) from error
    folder = _find_dist_info(wheel, members)
    tags, purelib = _read_wheel_file(wheel, members, folder)
    headers = Parser().parsestr(_read_text(wheel, members, f"{folder}/METADATA"), headersonly=True)

    def get(key: str) -> str | None:
        value = headers.get(key)
        return str(value).strip() or None if value is not None else None

    name, version = get("Name"), get("Version")
    if name is None or version is None:
        raise WheelError("METADATA lacks Name or Version", where=where, hint=_HINT)
    folder_name, _, folder_version = folder.removesuffix(".dist-info").partition("-")
    try:
        agree = (
            canonicalize_name(name) == canonicalize_name(folder_name) == named
            and Version(version) == Version(folder_version.replace("_", "-")) == named_version
        )
    except InvalidVersion as error:
        raise WheelError(f"METADATA is wrong: {error}", where=where, hint=_HINT) from error
    if not agree:
        raise WheelError(
            f"METADATA ({name} {version}), {folder} and the file's name don't agree",
            where=where,
            hint=_HINT,
        )
    return WheelMetadata(
        name=named,
        version=version,
        dist_info=folder,
        purelib=purelib,
        tags=tags,
        requires_python=get("Requires-Python"),
        requires_dist=_all(headers.get_all("Requires-Dist", [])),
        provides_extra=_all(headers.get_all("Provides-Extra", [])),
        license=get("License-Expression") or get("License"),
        summary=get("Summary"),
        home_page=get("Home-page"),
    )


def _all(values: list[str]) -> tuple[str, ...]:
    return tuple(" ".join(str(value).split()) for value in values)


def _find_dist_info(wheel: WheelFile, members: Mapping[str, Member]) -> str:
    tops = {name.partition("/")[0] for name in members}
    found = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(found) != 1:
        what = "has no .dist-info folder" if not found else f"has several: {', '.join(found)}"
        raise WheelError(f"the wheel {what}", where=wheel.filename, hint=_HINT)
    return found[0]


def _read_wheel_file(
    wheel: WheelFile, members: Mapping[str, Member], folder: str
) -> tuple[tuple[str, ...], bool]:
    text = _read_text(wheel, members, f"{folder}/WHEEL")
    headers = Parser().parsestr(text, headersonly=True)
    version = str(headers.get("Wheel-Version", "")).strip()
    major = version.partition(".")[0]
    if not major.isdecimal():
        raise WheelError(f"its Wheel-Version is {version!r}", where=wheel.filename, hint=_HINT)
    if int(major) > _MAJOR:
        raise WheelError(
            f"the wheel uses version {version} of the wheel format; only 1.x is known",
            where=wheel.filename,
            hint="Update Dockyard, or pin a version whose wheels are older.",
        )
    purelib = str(headers.get("Root-Is-Purelib", "")).strip().lower() == "true"
    return _all(headers.get_all("Tag", [])), purelib


def _read_text(wheel: WheelFile, members: Mapping[str, Member], name: str) -> str:
    member = members.get(name)
    if member is None:
        raise WheelError(f"the wheel has no {name}", where=wheel.filename, hint=_HINT)
    try:
        return wheel.read(member).decode("utf-8")
    except UnicodeDecodeError as error:
        raise WheelError(f"{name} is not UTF-8", where=wheel.filename, hint=_HINT) from error


_HINT = "The wheel is broken; pin another version, or ask its maintainers for a right one."
