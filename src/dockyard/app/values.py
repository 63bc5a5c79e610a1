"""The grammar of each setting: one function per kind of value, from TOML's to a checked one.

Rules: a parser takes any object and returns the value, or raises ValueError whose text completes
"`key`: …". No parser touches the disk; whether a path exists is for the caller to ask.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name

# Folders that the image's own parts own: the project's files can't be put there.
RESERVED = (
    *("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp"),
    *("usr", "var/lib/dpkg", "opt/venv"),
)
SUITES = ("bookworm", "trixie")
PLATFORMS = ("linux/amd64", "linux/arm64")
REQUIREMENT_SUFFIXES = (".txt", ".in", ".toml", ".lock", ".yml", ".yaml")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The distribution project's reference grammar: domain[:port]/component/component.
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Debian policy 5.6.1: package names.
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+)s)?(?:([0-9]+)ms)?")
_MINOR = re.compile(r"3\.[0-9]{1,2}(?:\.[0-9]+)?")
_SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"})
_SHELL_SYNTAX = re.compile(r"[|&;<>`$()*?\n]|(?<!\S)~")
_SECRET = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|PRIVATE_KEY|API_?KEY"
    r"|ACCESS_?KEY|SECRET_?KEY|AUTH_?KEY|KEY)(?:_|$)|(?:PASSWORD|SECRET|TOKEN|APIKEY)$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(
    r"(?:^|_)(?:MAX|NUM|N|PAD|EOS|BOS|UNK|MIN)_.*TOKENS?|TOKENS$|TOKENIZER|_(?:FILE|PATH|DIR|URL|NAME|"
    r"LENGTH|LEN|SIZE|LIMIT|COUNT|ID)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port that the container listens on."""

    number: int
    protocol: Literal["tcp", "udp"] = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


def shown(value: object) -> str:
    """A value as a message shows it, cut to a readable length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def text(value: object) -> str:
    """A non-empty string without control characters."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string in quotes, not {shown(value)}")
    if not value.strip():
        raise ValueError("must not be empty")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError(f"holds a control character: {shown(value)}")
    return value


def port(value: object) -> Port:
    """8080, "8080", "8080/tcp" or "53/udp"."""
    if isinstance(value, int) and not isinstance(value, bool):
        number, protocol = value, "tcp"
    elif isinstance(value, str):
        digits, slash, protocol = value.strip().partition("/")
        protocol = protocol.lower() if slash else "tcp"
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
            hint = "; the host's side is given to `dockyard run -p`" if ":" in value else ""
            raise ValueError(f'{shown(value)} is no port: write 8080 or "8080/udp"{hint}')
        number = int(digits)
    else:
        raise ValueError(f'{shown(value)} is no port: write 8080 or "8080/udp"')
    if not 1 <= number <= 65535:
        raise ValueError(f"{number} is no port: ports are 1 to 65535")
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"the protocol {protocol!r} is neither tcp nor udp")
    return Port(number, "udp" if protocol == "udp" else "tcp")


def env_name(value: object) -> str:
    """The name of an environment variable."""
    if not isinstance(value, str) or not _ENV_NAME.fullmatch(value):
        raise ValueError(
            f"{shown(value)} can't name a variable: letters, digits and _, no digit first"
        )
    return value


def env_value(value: object) -> str:
    """The value of an environment variable: a string, or an integer as a convenience."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = "a table" if isinstance(value, dict) else shown(value)
        raise ValueError(f"must be a string in quotes, not {kind}")
    if "\0" in value:
        raise ValueError("holds a NUL character, which no variable can")
    return value


def looks_secret(name: str) -> bool:
    """Whether a variable's name says that its value shouldn't be in an image."""
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def shell_syntax(command: str) -> str | None:
    """The first thing in a command line that only a shell understands; None when there is none."""
    unquoted = re.sub(r"'[^']*'|\\.", " ", command)
    double = re.sub(r'"[^"]*"', lambda match: "$" if re.search(r"[$`]", match[0]) else "", unquoted)
    match = _SHELL_SYNTAX.search(double)
    if match:
        return match.group()
    first = command.split(maxsplit=1)[0] if command.strip() else ""
    return first if re.match(r"[A-Za-z_][A-Za-z0-9_]*=", first) else None


def command(value: object) -> tuple[str, ...]:
    """A command: a list of words, or one string that is split as a shell would, without a shell."""
    if isinstance(value, str):
        text(value)
        needs = shell_syntax(value)
        if needs is not None:
            raise ValueError(
                f"{shown(value)} needs a shell ({needs!r}); write it as a list, with a shell if it "
                f'must be: ["sh", "-c", "…"]'
            )
        try:
            words = shlex.split(value)
        except ValueError:
            raise ValueError(f"{shown(value)} has a quote that isn't closed") from None
        return tuple(words)
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a string or a list of strings, not {shown(value)}")
    for word in value:
        if not isinstance(word, str):
            raise ValueError(f"each word must be a string in quotes, not {shown(word)}")
        if "\0" in word:
            raise ValueError("holds a NUL character")
        if word in _SHELL_WORDS and value[0] not in ("sh", "bash", "/bin/sh", "/bin/bash"):
            raise ValueError(f'{word!r} means something to a shell only; write ["sh", "-c", "…"]')
    if not value or not value[0]:
        raise ValueError("must name a program")
    return tuple(value)


def workdir(value: object) -> str:
    """The absolute folder of the project's files in the image."""
    path = text(value)
    if not path.startswith("/"):
        raise ValueError(f'{shown(value)} must be absolute, such as "/app"')
    if any(part in ("..", ".") or part.startswith(".wh.") for part in path.split("/")):
        raise ValueError(f"{shown(value)} must be a plain path, without '.' or '..'")
    path = posixpath.normpath("/" + path.strip("/"))
    if is_reserved(path):
        raise ValueError(f'{shown(value)} belongs to the system; choose another, such as "/app"')
    return path


def is_reserved(path: str) -> bool:
    """Whether an absolute path of the image is the root or belongs to the system."""
    inner = posixpath.normpath(path).strip("/")
    return not inner or any(inner == name or inner.startswith(name + "/") for name in RESERVED)


def user(value: object) -> str:
    """A uid, a name, or either with a group: 10001, "10001:10001", "nobody", "app:app"."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    written = text(value)
    name, colon, group = written.partition(":")
    for part in (name, group) if colon else (name,):
        number = part.isascii() and part.isdigit()
        if number and int(part) > 2**31 - 1:
            raise ValueError(f"{part} is larger than any user id")
        if not number and not _USER_NAME.fullmatch(part):
            raise ValueError(f'{shown(value)} is no user: write 10001, "10001:10001" or "name"')
    return written


def duration(value: object) -> timedelta:
    """ "30s", "1m30s", "500ms", "2h"."""
    written = value.strip() if isinstance(value, str) else ""
    match = _DURATION.fullmatch(written)
    if not written or match is None or any(len(part or "") > 9 for part in match.groups()):
        raise ValueError(f'{shown(value)} is no duration: write "30s", "1m30s" or "500ms"')
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    try:
        result = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    except OverflowError:
        result = timedelta.max
    if result > timedelta(days=1):
        raise ValueError(f"{shown(value)} is more than a day")
    return result


def duration_text(value: timedelta) -> str:
    """A duration as `duration` reads it."""
    total = round(value / timedelta(milliseconds=1))
    seconds, milliseconds = divmod(total, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"), (milliseconds, "ms"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def image_name(value: object) -> str:
    """A repository's name without tag or digest: "app", "registry.example:5000/team/app"."""
    name = text(value)
    if "@" in name or ":" in name.rsplit("/", 1)[-1]:
        raise ValueError(f"{shown(value)} has a tag or digest; tags go into `tags`")
    if len(name) > 255:
        raise ValueError("is longer than 255 characters")
    first, slash, rest = name.partition("/")
    has_domain = slash and ("." in first or ":" in first or first == "localhost")
    if has_domain and not _DOMAIN.fullmatch(first):
        raise ValueError(f"{first!r} is no registry")
    for part in (rest if has_domain else name).split("/"):
        if not _COMPONENT.fullmatch(part):
            lower = name.lower()
            hint = f"; {lower!r} would do" if lower != name and _names_image(lower) else ""
            raise ValueError(
                f"{shown(value)} is no image name: lower-case letters, digits and . _ - between "
                f"them{hint}"
            )
    return name


def _names_image(name: str) -> bool:
    try:
        image_name(name)
    except ValueError:
        return False
    return True


def tag(value: object) -> str:
    """An image's tag."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'must be a string in quotes: "{value}"')
    written = text(value)
    if not _TAG.fullmatch(written):
        raise ValueError(f"{shown(value)} is no tag: at most 128 letters, digits and _ . -")
    return written


def layer_index(value: object) -> str:
    """A repository's name, or its whole path in the registry; "" for none."""
    if isinstance(value, bool):
        return "layers" if value else ""
    written = text(value)
    if not re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", written):
        raise ValueError(
            f"{shown(value)} is no repository's name: write it as layers or team/layers"
        )
    return written


def base(value: object) -> str:
    """A Debian suite, "oci:DIR", "archive:FILE", or an image's reference."""
    written = text(value)
    if written in SUITES:
        return written
    scheme, colon, path = written.partition(":")
    if colon and scheme in ("oci", "archive"):
        if not path:
            raise ValueError(f"{shown(value)} names no path")
        return written
    rest, at, digest = written.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{shown(value)} has a digest that isn't sha256:<64 hex digits>")
    head, slash, last = rest.rpartition("/")
    name, colon, label = last.partition(":")
    if colon and not _TAG.fullmatch(label):
        raise ValueError(f"{label!r} is no tag")
    try:
        image_name(head + slash + name)
    except ValueError:
        raise ValueError(
            f'{shown(value)} is no base: write "bookworm", "trixie", an image such as '
            f'"python:3.12-slim", "oci:DIR" or "archive:FILE"'
        ) from None
    return written


def python(value: object) -> str:
    """A Python: "3.11", or a specifier such as ">=3.11,<3.13"."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        raise ValueError(f'must be a string in quotes: "{value}" (3.10 as a number is 3.1)')
    written = text(value).strip()
    if _MINOR.fullmatch(written):
        return written
    try:
        if any(character in written for character in "<>=!~"):
            SpecifierSet(written)
            return written
    except InvalidSpecifier:
        pass
    raise ValueError(f'{shown(value)} is no Python version: write "3.11" or ">=3.11,<3.14"')


def debian_name(value: object) -> str:
    """The name of a Debian package."""
    written = text(value)
    if not _DEBIAN_NAME.fullmatch(written):
        raise ValueError(f"{shown(value)} is no Debian package name")
    return written


def package_name(value: object) -> str:
    """A Python package's, extra's or group's name, normalised (PEP 503)."""
    written = text(value)
    try:
        return canonicalize_name(written, validate=True)
    except InvalidName:
        raise ValueError(f"{shown(value)} is no name of a package") from None


def requirement(value: object) -> str:
    """A file of requirements inside the project, or one requirement (PEP 508)."""
    written = text(value).strip()
    if is_requirements_file(written):
        return inner_path(written)
    try:
        Requirement(written)
    except InvalidRequirement:
        raise ValueError(
            f"{shown(value)} is neither a file ({', '.join(REQUIREMENT_SUFFIXES)}) nor a "
            f'requirement such as "torch>=2.4"'
        ) from None
    return written


def is_requirements_file(written: str) -> bool:
    """Whether an item of `requirements` names a file, not a package."""
    return "://" not in written and "@" not in written and written.endswith(REQUIREMENT_SUFFIXES)


def inner_path(value: object) -> str:
    """A path relative to the project that stays inside it."""
    written = text(value).strip()
    if "\\" in written:
        raise ValueError(f"{shown(value)} must be written with /")
    path = posixpath.normpath(written)
    if path in (".", "..") or path.startswith(("/", "../")):
        raise ValueError(f"{shown(value)} must be a path inside the project")
    return path


def pattern(value: object) -> str:
    """A pattern of paths, written as in .dockerignore, without "!"."""
    written = text(value).strip()
    if written.startswith("!"):
        raise ValueError(
            f"{shown(value)} has a '!': what `exclude` leaves out, `include` brings back"
        )
    if ".." in written.split("/"):
        raise ValueError(f"{shown(value)} must stay inside the project")
    return written


def platform(value: object) -> str:
    """ "linux/amd64" or "linux/arm64", or a name that people use for them."""
    written = text(value).strip().lower().removeprefix("linux/")
    name = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "arm64/v8": "arm64"}.get(
        written, written
    )
    if f"linux/{name}" not in PLATFORMS:
        raise ValueError(f"{shown(value)} isn't supported: platforms are {' and '.join(PLATFORMS)}")
    return f"linux/{name}"


def label_key(value: object) -> str:
    """The key of a label."""
    written = text(value)
    if any(character.isspace() for character in written):
        raise ValueError(f"{shown(value)} holds white space")
    return written


def label_value(value: object) -> str:
    """The value of a label."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string in quotes, not {shown(value)}")
    return value


def url_path(value: object) -> str:
    """The path of a URL, such as "/health"."""
    written = text(value)
    if not written.startswith("/") or not written.isascii() or " " in written:
        raise ValueError(f'{shown(value)} must be a path such as "/health"')
    return written


def count(value: object) -> int:
    """A number of things, at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65536:
        raise ValueError(f"must be a whole number from 1 to 65536, not {shown(value)}")
    return value


def model_name(value: object) -> str:
    """A model's name in URLs."""
    name = text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise ValueError(f"must be letters, digits and . _ - only, not {shown(value)}")
    return name


def serve_target(value: object) -> str:
    """A path inside the project, or "module:Class"."""
    written = text(value)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", written):
        return written
    return inner_path(value)


def retries(value: object) -> int:
    """How often a health check may fail in a row."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
        raise ValueError(f"must be a number from 1 to 100, not {shown(value)}")
    return value
