"""uv's complaints, translated: what is wrong, where it was written, what to do next.

Rules:
- One clear message each; what isn't recognised is passed on in uv's own words.
- No text leaves here with a credential in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dockyard.errors import ResolveError

if TYPE_CHECKING:
    from dockyard.wheels.credentials import Credentials
    from dockyard.wheels.requirement import Requirements
    from dockyard.wheels.target import Target

Kind = Literal[
    "network", "offline", "source-only", "missing", "refused", "conflict", "platform", "other"
]

_NAME = r"([A-Za-z0-9][A-Za-z0-9._-]*)"
_NOT_FOUND = re.compile(
    rf"{_NAME}(?:\[[^\]]*\])? was not found in the (package registry|provided|cache)"
)
_NO_VERSION = re.compile(
    rf"there (?:is|are) no versions? of {_NAME}(?:\[[^\]]*\])?([=<>!~][^\s,]*)"
)
_ONLY = re.compile(
    rf"only (?:the following versions of )?{_NAME}(?:\[[^\]]*\])?([<=>][^\s]*)"
    rf" (?:is|are) available and you require {_NAME}"
)
_OTHER_PLATFORM = re.compile(
    rf"Wheels are available for `{_NAME}` \(v?([^)]+)\) on the following platforms?: ([^\n]+)"
)
_OTHER_PYTHON = re.compile(
    rf"only found wheels for `{_NAME}` \(v?([^)]+)\) with the following "
    r"Python (?:ABI|implementation) tags?: ([^\n]+)"
)
_NO_WHEELS = re.compile(rf"{_NAME}(?:\[[^\]]*\])?(?:==(\S+))? has no (?:usable )?wheels")
_BUILD_OFF = re.compile(
    rf"Wheels are required for `{_NAME}` because building from source is disabled"
)
_REQUIRES_PYTHON = re.compile(rf"{_NAME}(?:==(\S+))? requires Python ([^\n]+?) and ")
_POSITION = re.compile(r"in `([^`]+)` at position (\d+)")
_LINE = re.compile(r"(?:: |in )`?([^\s:`]+):(\d+):\d+")
_FETCH = re.compile(r"(?:[Ff]ailed to fetch:?|sending request for url) \(?`?([a-z+]+://[^\s)`]+)")
_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})")
_REFUSED = re.compile(
    r"An index URL \(([^)]+)\) (?:could not be queried due to a lack of valid authentication "
    r"credentials \((\d+)|returned a (403))"
)
_NETWORK = (
    "error sending request",
    "dns error",
    "Connection refused",
    "Network is unreachable",
    "operation timed out",
    "Could not connect",
    "Could not resolve host",
    "unable to access",
    "Request failed after",
    "Connection reset",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A complaint and its kind, so that the caller may try another way."""

    kind: Kind
    error: ResolveError


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What was asked of uv."""

    requirements: Requirements
    target: Target
    credentials: Credentials
    folder: Path
    indexes: str = ""


def translate(text: str, context: Context) -> Complaint:
    """Translate what uv wrote to its standard error."""
    text = context.credentials.redact(text)
    for find in (_network, _missing, _platform, _version, _written, _building, _files):
        if (found := find(text, context)) is not None:
            return found
    cause = _causes(text)
    if "No solution found" in text:
        return _complaint(
            "conflict",
            "the requirements contradict each other",
            _first_where(cause, context),
            cause,
            "Loosen one of these requirements.",
        )
    head = _head(text)
    detail = cause if cause and cause not in head else ""
    return _complaint(
        "other", head or "uv could not resolve the requirements", _shown(context), detail
    )


def _network(text: str, context: Context) -> Complaint | None:
    if "network was disabled" in text or "network connectivity is disabled" in text.lower():
        names = ", ".join(
            sorted(
                {m[1] for m in re.finditer(rf"{_NAME}(?:==\S+)? was not found in the cache", text)}
            )
        )
        names = names or ", ".join(sorted({m[1] for m in _NOT_FOUND.finditer(text)}))
        what = f"without a network {names} can't be had" if names else "this needs the network"
        first = names.partition(",")[0]
        return _complaint(
            "offline",
            f"{what}: the cache doesn't have it" if names else what,
            context.requirements.locate(first) or _shown(context),
            "",
            "Resolve once with a network; after that the cache is enough.",
        )
    if refused := _REFUSED.search(text):
        return _refused(refused[2] or refused[3] or "401", refused[1])
    url = _FETCH.search(text)
    where = url[1] if url else None
    if (status := _STATUS.search(text)) and status[1] in ("401", "403", "407"):
        return _refused(status[1], where)
    if status and status[1] != "404":
        return _complaint(
            "network", f"the index failed (HTTP {status[1]})", where, "", "Try again later."
        )
    lowered = text.lower()
    if "certificate" in lowered and ("invalid" in lowered or "unknownissuer" in lowered):
        return _complaint(
            "other",
            "the index's certificate isn't trusted",
            where,
            "",
            "Name your certificate authority's file: cert in pip.conf, or SSL_CERT_FILE.",
        )
    if any(sign in text for sign in _NETWORK):
        reason = _last_cause(text)
        return _complaint(
            "network",
            f"the index can't be reached: {reason}" if reason else "the index can't be reached",
            where,
            "",
            "Check the network, the proxy, and the indexes in pip's or uv's settings.",
        )
    return None


def _refused(status: str, where: str | None) -> Complaint:
    return _complaint(
        "refused",
        f"the index refuses access (HTTP {status})",
        where,
        "",
        "Check the user name and password in pip's or uv's settings, or in ~/.netrc.",
    )


def _missing(text: str, context: Context) -> Complaint | None:
    found = next((m for m in _NOT_FOUND.finditer(text)), None)
    if found is None or "No solution found" not in text:
        return None
    name = found[1]
    where = context.requirements.locate(name)
    asked = "" if where else _who_asked(text, name)
    return _complaint(
        "missing",
        f"the package {name!r} isn't on any index{context.indexes}{asked}",
        where or _shown(context),
        "",
        "Check its spelling; if it is private, add its index to pip's or uv's settings.",
    )


def _platform(text: str, context: Context) -> Complaint | None:
    target = context.target
    if found := _OTHER_PLATFORM.search(text):
        name, version = found[1], found[2]
        platforms = found[3].replace("`", "")
        newer = [
            int(minor)
            for minor, machine in re.findall(r"manylinux_2_(\d+)_(\w+)", platforms)
            if machine == target.machine
        ]
        have = int(target.glibc.partition(".")[2])
        if newer and min(newer) > have:
            return _complaint(
                "platform",
                f"{name} {version} needs glibc 2.{min(newer)}, the base has {target.glibc}",
                context.requirements.locate(name) or _shown(context),
                "",
                f"Choose a newer base, or an older version of {name}.",
            )
        return _complaint(
            "platform",
            f"{name} {version} has no wheel for linux/{target.architecture}, only for {platforms}",
            context.requirements.locate(name) or _shown(context),
            "",
            f"Choose another version of {name}, or another platform.",
        )
    if found := _OTHER_PYTHON.search(text):
        tags = ", ".join(_python_name(tag) for tag in re.findall(r"`(\w+)`", found[3]))
        return _complaint(
            "platform",
            f"{found[1]} {found[2]} has no wheel for Python {target.minor}, only for {tags}",
            context.requirements.locate(found[1]) or _shown(context),
            "",
            f"Choose another Python, or another version of {found[1]}.",
        )
    off = _BUILD_OFF.search(text)
    if off or "Building source distributions is disabled" in text:
        return source_only(
            off[1] if off else None, context, _version_of(text, off[1] if off else "")
        )
    return None


def source_only(name: str | None, context: Context, version: str = "") -> Complaint:
    """The complaint about a package that has only a source distribution."""
    subject = f"{name}{version and ' ' + version}" if name else "a local project"
    target = context.target
    return _complaint(
        "source-only",
        f"{subject} has only source code for Python {target.minor} on "
        f"linux/{target.architecture}, no wheel",
        (context.requirements.locate(name) if name else None) or _shown(context),
        "",
        f"Build on a linux/{target.architecture} machine, or choose a version that has a wheel.",
    )


def _version(text: str, context: Context) -> Complaint | None:
    if found := _REQUIRES_PYTHON.search(text):
        name, version, wants = found[1], found[2] or "", found[3]
        return _complaint(
            "platform",
            f"{name}{version and ' ' + version} needs Python {wants}, "
            f"the image has {context.target.python}",
            context.requirements.locate(name) or _shown(context),
            "",
            f"Set python in dockyard.toml, or choose another version of {name}.",
        )
    lines = _causes(text)
    found = _NO_VERSION.search(lines)
    only = _ONLY.search(lines)
    # With other packages in the argument it is a conflict, not a missing version.
    if "depends on" in lines or "depend on" in lines or not (found or only):
        return None
    name = found[1] if found else (only[1] if only else "")
    line = next((x for x in context.requirements.lines if x.name == name), None)
    wanted = line.text if line else name
    there = f"; there is {only[2].replace('<=', 'nothing newer than ')}" if only else ""
    return _complaint(
        "missing",
        f"no version of {name} fits {wanted!r}{there.replace('there is nothing', 'nothing')}",
        line.where if line else _shown(context),
        "",
        f"Choose a version of {name} that exists.",
    )


def _written(text: str, context: Context) -> Complaint | None:
    """Mistakes in the requirements files themselves."""
    if "Couldn't parse requirement" in text or "Unexpected '" in text or "Error parsing" in text:
        where = _line_at(text, context)
        if "failed to read from file" in text and (file := re.search(r"from file `([^`]+)`", text)):
            return _complaint(
                "other",
                f"{Path(file[1]).name} can't be read",
                where,
                "",
                "Name a file that exists.",
            )
        if "Unexpected '-'" in text:
            return _complaint(
                "other",
                "this option isn't understood in a requirements file",
                where,
                "",
                "Take it out, or put it into pip's or uv's configuration.",
            )
        cause = _causes(text).split("\n")
        return _complaint(
            "other",
            f"this requirement isn't understood: {cause[0].rstrip('.')}"
            if cause[0]
            else "this requirement isn't understood",
            where,
            "",
            'Write it as "name", "name>=1.2" or "name @ URL".',
        )
    if found := re.search(r"Requested extra not found: (\S+)", text):
        return _complaint(
            "other", f"the project has no extra {found[1]!r}", _shown(context), "",
            "Name an extra that pyproject.toml has.",
        )  # fmt: skip
    if found := re.search(r"dependency group '([^']+)' was not found", text):
        return _complaint(
            "other", f"the project has no dependency group {found[1]!r}", _shown(context), "",
            "Name a group that pyproject.toml has.",
        )  # fmt: skip
    return None


def _building(text: str, context: Context) -> Complaint | None:
    found = re.search(r"Failed to (?:download and )?build `([^`]+)`", text)
    if found is None:
        return None
    subject = found[1]
    name = re.split(r"[\s=@]", subject, maxsplit=1)[0].lower()
    if "Git operation failed" in text:
        reason = re.search(r"(?:fatal|error): ([^\n]+)", text.partition("--- stderr")[2])
        return _complaint(
            "other",
            f"the repository of {subject} can't be cloned"
            + (f": {reason[1].rstrip('.')}" if reason else ""),
            context.requirements.locate(name) or _shown(context),
            "",
            "Check the URL, the revision, and that git on this machine has access.",
        )
    return _complaint(
        "other",
        f"{subject} can't be built from source",
        context.requirements.locate(name) or _shown(context),
        _tail(text),
        "Install what its build needs on this machine, or choose a version that has a wheel.",
    )


def _files(text: str, context: Context) -> Complaint | None:
    if found := re.search(r"Distribution not found at: (\S+)", text):
        place = found[1].removeprefix("file://")
        return _complaint(
            "other", "there is no such file or folder", _where_of(place, context) or place, "",
            f"Check the path {place}.",
        )  # fmt: skip
    if found := re.search(r"`([^`]+)` does not appear to be a Python project", text):
        return _complaint(
            "other", "the folder is no Python project: it has neither pyproject.toml nor setup.py",
            _where_of(found[1], context) or found[1], "", "Name a folder that can be installed.",
        )  # fmt: skip
    if found := re.search(r"[Ff]ailed to read `--find-links` (?:directory|URL): (\S+)", text):
        return _complaint(
            "other", "the find-links place can't be read", found[1], "",
            "Mend find-links in pip's or uv's settings.",
        )  # fmt: skip
    return None


def _complaint(
    kind: Kind, what: str, where: str | None, detail: str, hint: str | None = None
) -> Complaint:
    what = f"{what}:\n{_indented(detail)}" if detail else what
    return Complaint(kind=kind, error=ResolveError(what, where=where, hint=hint))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _head(text: str) -> str:
    found = re.search(r"^error: (.+)$", text, re.MULTILINE)
    return found[1].strip().rstrip(".") if found else ""


def _causes(text: str) -> str:
    """The lines after "cause:", without uv's layout and its closing phrase."""
    found: list[str] = []
    inside = False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("cause:"):
            inside = True
            found.append(stripped.removeprefix("cause:").strip())
        elif inside and stripped and line.startswith("   ") and not set(stripped) <= {"^", " "}:
            found.append(stripped)
        elif not stripped or not line.startswith(" "):
            inside = False
    return "\n".join(
        line.replace(", we can conclude that your requirements are unsatisfiable", "")
        for line in found
    )


def _last_cause(text: str) -> str:
    causes = _causes(text).splitlines()
    return re.sub(r" \(os error \d+\)", "", causes[-1]).rstrip(".") if causes else ""


def _tail(text: str) -> str:
    """The last lines of a build's output: there the reason stands."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("hint:", "warning:"))]
    return "\n".join(lines[-8:])


def _shown(context: Context) -> str:
    return context.requirements.source.path.name


def _first_where(cause: str, context: Context) -> str:
    words = re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", cause)
    for word in words:
        if where := context.requirements.locate(word.lower()):
            return where
    return _shown(context)


def _who_asked(text: str, name: str) -> str:
    found = re.search(rf"{_NAME}(?:==\S+)? depends? on {re.escape(name)}\b", text)
    return f"; {found[1]} depends on it" if found and found[1] != name else ""


def _version_of(text: str, name: str) -> str:
    found = re.search(rf"{re.escape(name)}==(\S+) has no usable wheels", text) if name else None
    return found[1] if found else ""


def _python_name(tag: str) -> str:
    found = re.match(r"cp(\d)(\d+)", tag)
    return f"{found[1]}.{found[2]}" if found else tag


def _where_of(place: str, context: Context) -> str | None:
    path = Path(place)
    for line in context.requirements.lines:
        if line.local is not None and line.local.resolve() == path.resolve():
            return line.where
    return None


def _line_at(text: str, context: Context) -> str:
    if context.requirements.stdin is not None:
        return _shown(context)
    if found := _LINE.search(text):
        return f"{_relative(found[1], context)}:{found[2]}"
    if found := _POSITION.search(text):
        try:
            before = (context.folder / found[1]).read_bytes()[: int(found[2])]
        except OSError:
            return found[1]
        number = before.count(b"\n") + 1
        return f"{_relative(found[1], context)}:{number}"
    return _shown(context)


def _relative(name: str, context: Context) -> str:
    try:
        return str((context.folder / name).resolve().relative_to(context.folder.resolve()))
    except ValueError:
        return name
