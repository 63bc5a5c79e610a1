"""The configuration: `dockyard.toml`, or `[tool.dockyard]` in pyproject.toml.

Rules: everything has a default, and None or an empty list means "not said", so that detection may
decide. Unknown keys and wrong values are refused, all of them at once, one line each, with file,
line, key and the nearest right name. The model is frozen; the grammar of each value is in `values`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
)

from dockyard.app import values
from dockyard.app.envfile import read_env_file
from dockyard.app.fields import (
    ONE_OR_MORE,
    STRING,
    TABLE,
    Command,
    Duration,
    Frozen,
    Names,
    Once,
    One,
    Patterns,
    Variables,
    nothing,
)
from dockyard.app.lint_config import LintConfig
from dockyard.app.positions import KeyPath, key_lines, line_of
from dockyard.app.serve_config import ServeConfig
from dockyard.app.stack_config import StackConfig
from dockyard.errors import ConfigError

CONFIG_NAME = "dockyard.toml"
_PREFIX: KeyPath = ("tool", "dockyard")
_MAX_SIZE = 4 << 20


def _health(value: object) -> object:
    """The short forms of `healthcheck`: false, true, and a path."""
    if isinstance(value, bool):
        return {"enabled": value}
    return {"path": value} if isinstance(value, str) else value


class HealthcheckConfig(BaseModel):
    """How an engine asks whether the container works."""

    model_config = TABLE

    enabled: Annotated[bool, Strict()] = Field(
        True, description="false: no health check. `healthcheck = false` is short for it."
    )
    path: Annotated[
        str | None,
        PlainValidator(values.url_path),
        WithJsonSchema({"type": "string", "pattern": "^/"}),
    ] = Field(
        None,
        description="Path that must answer below 400. Without it: a route such as /health that the "
        "code has, else any answer of the server or a TCP connection.",
    )
    port: Annotated[
        values.Port | None,
        PlainValidator(values.port),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535}),
    ] = Field(None, description="Port that is asked; the first of `ports` by default.")
    command: Command = Field(
        None, description="Command, run in the container, whose exit code 0 means healthy."
    )
    interval: Duration = Field(timedelta(seconds=10), description="Time between two checks.")
    timeout: Duration = Field(timedelta(seconds=5), description="Time an answer may take.")
    start_period: Duration = Field(
        timedelta(seconds=120),
        description="Time after the start in which failures don't count: as long as loading the "
        "model may take.",
    )
    retries: Annotated[
        int,
        PlainValidator(values.retries),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100}),
    ] = Field(3, description="Failures in a row that make the container unhealthy.")


class AppConfig(BaseModel):
    """Everything that can be set; each key has a good default."""

    model_config = TABLE

    name: Annotated[str | None, PlainValidator(values.image_name), WithJsonSchema(STRING)] = Field(
        None,
        description="The image's name, with a registry if it has one: "
        '"registry.example/team/app". By default the name in pyproject.toml or of the folder.',
    )
    tags: Annotated[
        tuple[Annotated[str, PlainValidator(values.tag)], ...],
        One,
        Once,
        WithJsonSchema(ONE_OR_MORE),
    ] = Field(("latest",), description="The image's tags.")
    base: Annotated[str | None, PlainValidator(values.base), WithJsonSchema(STRING)] = Field(
        None,
        description='What the image stands on: "bookworm" or "trixie" (assembled from Debian '
        'packages), an image such as "python:3.12-slim", "oci:DIR" or "archive:FILE". By default '
        "the Debian suite that has the wanted Python.",
    )
    python: Annotated[str | None, PlainValidator(values.python), WithJsonSchema(STRING)] = Field(
        None,
        description='The Python version, "3.11", or a specifier, ">=3.11,<3.14". By default what '
        "the project says, else the newest that the base has.",
    )
    apt: Annotated[
        tuple[Annotated[str, PlainValidator(values.debian_name)], ...],
        One,
        Once,
        WithJsonSchema(ONE_OR_MORE),
    ] = Field((), description='Debian packages to add, such as ["libgl1", "ffmpeg"].')
    shell: Annotated[bool, Strict()] = Field(
        True, description="Whether the base has a shell (busybox)."
    )
    requirements: Annotated[
        tuple[Annotated[str, PlainValidator(values.requirement)], ...],
        One,
        Once,
        WithJsonSchema(ONE_OR_MORE),
    ] = Field(
        (),
        description="Where the dependencies are: files (requirements.txt, pyproject.toml, "
        "pylock.toml, uv.lock, environment.yml), or requirements themselves, such as "
        '["torch>=2.4", "flask"]. By default found in the folder.',
    )
    extras: Annotated[Names, One, Once, WithJsonSchema(ONE_OR_MORE)] = Field(
        (), description="Extras of pyproject.toml's [project.optional-dependencies] to install."
    )
    groups: Annotated[Names, One, Once, WithJsonSchema(ONE_OR_MORE)] = Field(
        (), description="Groups of pyproject.toml's [dependency-groups] to install."
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="cpu: wheels without CUDA; cuda: wheels with CUDA; auto: what the dependencies "
        "ask for.",
    )
    prefer: Annotated[Names, One, Once, WithJsonSchema(ONE_OR_MORE)] = Field(
        (), description="Packages that win when two install the same path with different bytes."
    )
    include: Patterns = Field(
        (),
        description="Patterns, as in .dockerignore, of files that are in the image whatever "
        "`exclude`, .dockerignore, .gitignore and the defaults say.",
    )
    exclude: Patterns = Field(
        (), description="Patterns, as in .dockerignore, of files that stay out of the image."
    )
    env: Variables = Field(
        default_factory=nothing,
        description="Environment variables of the image. Not for secrets: anyone who has the image "
        "can read them.",
    )
    env_file: Annotated[
        tuple[Annotated[str, PlainValidator(values.inner_path)], ...],
        One,
        Once,
        WithJsonSchema(ONE_OR_MORE),
    ] = Field(
        (),
        description="Files of NAME=value lines, read as Docker reads them; `env` wins over them.",
    )
    command: Command = Field(
        None,
        description="What the container starts: a list of words, or a string, which is split into "
        "words. No shell runs it: where one is needed, "
        '["sh", "-c", "…"]. By default found in the code.',
    )
    entrypoint: Command = Field(
        None, description="Words that stand before the command and stay when it is replaced."
    )
    workdir: Annotated[str, PlainValidator(values.workdir), WithJsonSchema(STRING)] = Field(
        "/app", description="Folder that holds the project's files and in which the command starts."
    )
    ports: Annotated[
        tuple[Annotated[values.Port, PlainValidator(values.port)], ...],
        One,
        Once,
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": 65535},
                    STRING,
                    {
                        "type": "array",
                        "items": {
                            "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, STRING]
                        },
                    },
                ]
            }
        ),
    ] = Field(
        (),
        description='Ports that the app listens on: 8080 or "53/udp"; the first is the one of '
        "the health check. By default found in the code.",
    )
    user: Annotated[
        str,
        PlainValidator(values.user),
        WithJsonSchema({"anyOf": [STRING, {"type": "integer", "minimum": 0}]}),
    ] = Field("10001", description='User that the container runs as: 10001, "10001:10001", "root".')
    healthcheck: Annotated[
        HealthcheckConfig | None,
        BeforeValidator(_health),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "boolean"},
                    {"type": "string", "pattern": "^/"},
                    {"$ref": "#/$defs/HealthcheckConfig"},
                ]
            }
        ),
    ] = Field(
        None,
        description="The health check: false for none, a path, or a table. By default found in the "
        "code.",
    )
    labels: Annotated[
        Mapping[
            Annotated[str, PlainValidator(values.label_key)],
            Annotated[str, PlainValidator(values.label_value)],
        ],
        Frozen,
        WithJsonSchema({"type": "object", "additionalProperties": STRING}),
    ] = Field(default_factory=nothing, description="Labels of the image.")
    platforms: Annotated[
        tuple[Annotated[str, PlainValidator(values.platform)], ...],
        One,
        Once,
        WithJsonSchema(ONE_OR_MORE),
    ] = Field(
        (),
        description='What the image runs on: "linux/amd64", "linux/arm64". By default what this '
        "machine is.",
    )
    bytecode: Literal["profile", "all", "none"] = Field(
        "profile",
        description="Which modules are compiled beforehand: those that start-up imports, all, or "
        "none.",
    )
    trim: Annotated[bool, Strict()] = Field(
        False,
        description="Leave out what a running app never reads: tests, C headers, static libraries.",
    )
    layer_index: Annotated[
        str,
        PlainValidator(values.layer_index),
        WithJsonSchema({"anyOf": [STRING, {"type": "boolean"}]}),
    ] = Field(
        "layers",
        description="The repository, beside the image in its registry, where layers that are known "
        "are found and new ones are entered; false: none.",
    )
    compression: Literal["gzip", "zstd"] = Field(
        "gzip",
        description="gzip works everywhere; zstd is smaller and quicker, but Docker before 23 "
        "can't load it.",
    )
    lint: Annotated[LintConfig | None, WithJsonSchema({"$ref": "#/$defs/LintConfig"})] = Field(
        None, description="What `dockyard lint` looks for."
    )
    serve: Annotated[ServeConfig | None, WithJsonSchema({"$ref": "#/$defs/ServeConfig"})] = Field(
        None,
        description="A model file or a Python class that Dockyard's own server serves. By default "
        "found, where nothing else can be started.",
    )
    stack: Annotated[StackConfig | None, WithJsonSchema({"$ref": "#/$defs/StackConfig"})] = Field(
        None,
        description="What runs beside the app: `dockyard up` starts it, `dockyard compose` writes "
        "it down.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigOrigin:
    """Where a configuration was read.

    name: "dockyard.toml", "pyproject.toml", or "" when there is none; path: the file; warnings:
    things that are allowed and probably not meant, one line each.
    """

    name: str = ""
    path: Path | None = None
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def where(self, *keys: str | int) -> str:
        """The file and line of a key, as "dockyard.toml:3"; "" when no file was read."""
        return _where(self.name, self.lines, keys)


def load_config(folder: Path) -> tuple[AppConfig, ConfigOrigin]:
    """Read the folder's configuration; one with only defaults when there is none.

    Raises ConfigError, which names every problem with its file, line and key.
    """
    own = folder / CONFIG_NAME
    shared = folder / "pyproject.toml"
    origin, settings = ConfigOrigin(), {}
    if _exists(shared):
        text, document = read_toml(shared, name="pyproject.toml")
        tool = document.get("tool", {})
        table = tool.get("dockyard", {}) if isinstance(tool, dict) else {}
        lines = _below(key_lines(text), _PREFIX) if table else {}
        if not isinstance(table, dict):
            raise ConfigError("[tool.dockyard] must be a table", where="pyproject.toml")
        if table:
            origin = ConfigOrigin(name="pyproject.toml", path=shared, lines=lines)
            settings = table
    if _exists(own):
        text, document = read_toml(own, name=CONFIG_NAME)
        if settings and document:
            raise ConfigError(
                f"the configuration is in two places: {CONFIG_NAME} and [tool.dockyard]",
                where=_where(origin.name, origin.lines, (next(iter(settings)),)),
                hint=f"Keep one of them, such as {CONFIG_NAME}.",
            )
        if not settings:
            settings = document
            origin = ConfigOrigin(name=CONFIG_NAME, path=own, lines=key_lines(text))
    config = parse_config(settings, origin)
    problems = _problems_on_disk(config, folder)
    if problems:
        raise _error(problems, origin)
    warnings = _warnings(config, origin, folder)
    return config, ConfigOrigin(
        name=origin.name, path=origin.path, lines=origin.lines, warnings=tuple(warnings)
    )


def parse_config(settings: Mapping[str, Any], origin: ConfigOrigin | None = None) -> AppConfig:
    """Check settings as TOML gives them; raises ConfigError that names every problem."""
    origin = origin or ConfigOrigin(name=CONFIG_NAME)
    try:
        config = AppConfig.model_validate(dict(settings))
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False)]
        raise _error(problems, origin) from None
    problems = _contradictions(config)
    if problems:
        raise _error(problems, origin)
    return config


def image_environment(config: AppConfig, folder: Path) -> dict[str, str]:
    """The variables that the configuration gives the image: env-file's, then env's."""
    found: dict[str, str] = {}
    for name in config.env_file:
        found.update(read_env_file(folder / name, where=name))
    return found | dict(config.env)


def read_toml(path: Path, *, name: str) -> tuple[str, dict[str, Any]]:
    """Return a TOML file's text and content; raises ConfigError with the line."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror or error}", where=name) from None
    if len(data) > _MAX_SIZE:
        raise ConfigError("is larger than 4 MiB, which no configuration is", where=name)
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        bad = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            "isn't UTF-8, as TOML must be", where=f"{name}:{bad}", hint="Save the file as UTF-8."
        ) from None
    try:
        return text, tomllib.loads(text)
    except RecursionError:
        raise ConfigError("is nested too deeply", where=name) from None
    except ValueError as error:
        reason, line = _syntax(str(error), text)
        raise ConfigError(f"isn't valid TOML: {reason}", where=f"{name}:{line}") from None


def _syntax(message: str, text: str) -> tuple[str, int]:
    """What tomllib says is wrong, and its line."""
    reason, _, place = message.partition(" (at ")
    if place.startswith("line "):
        return reason, int(place.removeprefix("line ").split(",")[0])
    return reason, max(1, text.rstrip("\n").count("\n") + 1)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _below(lines: Mapping[KeyPath, int], prefix: KeyPath) -> dict[KeyPath, int]:
    size = len(prefix)
    return {path[size:]: line for path, line in lines.items() if path[:size] == prefix}


def _where(name: str, lines: Mapping[KeyPath, int], path: KeyPath) -> str:
    line = line_of(lines, path)
    if not name or line is None:
        return name
    return f"{name}:{line}"


# A problem: the path of its key, and a text that completes "`key` …".
_Problem = tuple[KeyPath, str]


def _keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(sorted(name.replace("_", "-") for name in model.model_fields))


_KEYS = _keys_of(AppConfig)
_TABLES: dict[str, type[BaseModel]] = {
    "healthcheck": HealthcheckConfig,
    "lint": LintConfig,
    "serve": ServeConfig,
    "stack": StackConfig,
}
_MEANT = {
    "apt-packages": "apt",
    "arch": "platforms",
    "architecture": "platforms",
    "args": "command",
    "cmd": "command",
    "cuda": "accelerator",
    "dependencies": "requirements",
    "device": "accelerator",
    "env-files": "env-file",
    "environment": "env",
    "expose": "ports",
    "from": "base",
    "gpu": "accelerator",
    "health": "healthcheck",
    "health-check": "healthcheck",
    "ignore": "exclude",
    "image": "name",
    "packages": "requirements",
    "python-version": "python",
    "requires-python": "python",
    "run": "command",
    "start": "command",
    "system-packages": "apt",
    "variables": "env",
    "working-dir": "workdir",
    "workingdir": "workdir",
}


def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    plain = word.strip().lower().replace("_", "-")
    if plain in known:
        return plain
    if _MEANT.get(plain) in known:
        return _MEANT[plain]
    close = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    return close[0] if close else None


def _problem(details: Any) -> _Problem:
    """Translate one of pydantic's errors."""
    path: KeyPath = tuple(part for part in details["loc"] if part != "[key]") or details["loc"]
    kind, given = details["type"], details.get("input")
    table = _TABLES.get(str(path[0])) if len(path) > 1 else None
    known = _KEYS if table is None else _keys_of(table)
    if kind == "extra_forbidden":
        nearest = _nearest(str(path[-1]), known)
        if nearest is not None:
            return path, f"is no setting; did you mean `{nearest}`?"
        return path, f"is no setting; the settings are {', '.join(known)}"
    if kind == "value_error":
        text = str(details["ctx"]["error"])
    elif kind == "literal_error":
        choices = tuple(_choices(path))
        text = f"must be {_or(choices)}, not {values.shown(given)}"
        close = _nearest(given, choices) if isinstance(given, str) else None
        text += f'; did you mean "{close}"?' if close else ""
    elif kind in ("bool_type", "bool_parsing"):
        text = f"must be true or false (without quotes), not {values.shown(given)}"
    elif kind in ("tuple_type", "list_type"):
        text = f"must be a string or a list of strings, not {values.shown(given)}"
    elif kind in ("mapping_type", "dict_type", "model_type", "model_attributes_type"):
        text = f"must be a table, not {values.shown(given)}"
    else:
        text = f"is wrong: {details['msg']}"
    if len(path) == 2 and path[0] in ("env", "labels") and str(path[1]) in _KEYS:
        text += (
            f". `{path[1]}` is a setting: what follows the header [{path[0]}] belongs to it, so "
            "put it above"
        )
    return path, text


def _choices(path: KeyPath) -> tuple[str, ...]:
    model = _TABLES[str(path[0])] if len(path) > 1 else AppConfig
    annotation = model.model_fields[str(path[-1]).replace("-", "_")].annotation
    return tuple(getattr(annotation, "__args__", ()))


def _or(choices: tuple[str, ...]) -> str:
    quoted = [f'"{choice}"' for choice in choices]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]])


def _key(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _error(problems: list[_Problem], origin: ConfigOrigin) -> ConfigError:
    """One error out of all problems, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: line_of(origin.lines, problem[0]) or 0)
    lines = [
        (_where(origin.name or CONFIG_NAME, origin.lines, path), f"`{_key(path)}` {text}")
        for path, text in ordered
    ]
    hint = "`dockyard schema` prints every setting with its meaning."
    if len(lines) == 1:
        return ConfigError(lines[0][1], where=lines[0][0], hint=hint)
    return ConfigError("\n".join(f"{where}: {text}" for where, text in lines), hint=hint)


def _contradictions(config: AppConfig) -> list[_Problem]:
    """Settings that are right alone and wrong together."""
    problems: list[_Problem] = []
    shells = ("sh", "bash", "/bin/sh", "/bin/bash")
    for key, words in (("command", config.command), ("entrypoint", config.entrypoint)):
        if words and not config.shell and words[0] in shells:
            problems.append(((key,), "starts a shell, but `shell` is false"))
    health = config.healthcheck
    if health is not None:
        if health.path and health.command:
            problems.append((("healthcheck",), "has a path and a command; one of them is enough"))
        if health.interval.total_seconds() <= 0 or health.timeout.total_seconds() <= 0:
            problems.append((("healthcheck",), "needs an interval and a timeout above zero"))
        if health.command and not config.shell and health.command[0] in shells:
            problems.append((("healthcheck", "command"), "starts a shell, but `shell` is false"))
    return problems


def _problems_on_disk(config: AppConfig, folder: Path) -> list[_Problem]:
    problems: list[_Problem] = []
    path: KeyPath
    for name, secret in (config.stack.secrets if config.stack else {}).items():
        if not _exists(folder / secret):
            path = ("stack", "secrets", name)
            problems.append((path, f"names {secret!r}, which is no file here"))
    single = {"requirements": len(config.requirements) == 1, "env-file": len(config.env_file) == 1}
    for key, names in (("requirements", config.requirements), ("env-file", config.env_file)):
        for index, name in enumerate(names):
            path = (key,) if single[key] else (key, index)
            if key == "requirements" and not values.is_requirements_file(name):
                continue
            file = folder / name
            if not _exists(file):
                problems.append((path, f"names {name!r}, which is no file here"))
            elif not file.resolve().is_relative_to(folder.resolve()):
                problems.append((path, f"names {name!r}, which leads out of the project"))
    return problems


def _warnings(config: AppConfig, origin: ConfigOrigin, folder: Path) -> list[str]:
    found: list[str] = []
    advice = "anyone who has the image can read it; give it at run time (`dockyard run -e`)"
    for name, value in config.env.items():
        if value and values.looks_secret(name):
            found.append(f"{origin.where('env', name)}: {name} looks like a secret: {advice}")
    for file in config.env_file:
        for name, value in read_env_file(folder / file, where=file).items():
            if value and values.looks_secret(name):
                found.append(f"{file}: {name} looks like a secret: {advice}")
    return found
