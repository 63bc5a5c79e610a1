"""What `dockyard init` writes: what was detected, as a commented dockyard.toml and .dockerignore.

Rules: each value stands under the reason for it, so that the file explains itself; settings that
were left at their defaults stand there as comments. Reading the file again gives the same build.
Files that exist are left alone unless forced.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from dockyard.app.config import CONFIG_NAME
from dockyard.app.values import duration_text
from dockyard.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.app.config import AppConfig
    from dockyard.app.detect import Decision, Detected, HealthCheck
    from dockyard.app.detect.serving import Serving

IGNORE_NAME = ".dockerignore"

_IGNORE = """\
# What stays out of the image, besides what .gitignore says and what Dockyard leaves out by itself
# (.git, caches, virtual environments, .env files). The patterns begin at this folder: "**/*.log"
# means any folder. `dockyard build --dry-run` lists the layers and what is in them.
**/__pycache__
**/.ipynb_checkpoints
**/*.log
**/*.tmp
.env
.venv
venv
notebooks
tests
wandb
mlruns
lightning_logs
"""


def init_files(detected: Detected, config: AppConfig) -> dict[str, str]:
    """Return the texts of the files that `dockyard init` writes, by name."""
    return {CONFIG_NAME: config_text(detected, config), IGNORE_NAME: ignore_text(detected)}


def write_init(
    folder: Path, detected: Detected, config: AppConfig, *, force: bool = False
) -> list[Path]:
    """Write the files; raises ConfigError when dockyard.toml is there and force isn't given.

    A .dockerignore that is there is kept: it says what its owner means.
    """
    target = folder / CONFIG_NAME
    if target.exists() and not force:
        raise ConfigError(
            "is there already", where=CONFIG_NAME, hint="To replace it: `dockyard init --force`."
        )
    written = []
    for name, text in init_files(detected, config).items():
        path = folder / name
        if name == IGNORE_NAME and path.exists():
            continue
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"can't be written: {error.strerror or error}", where=str(path)
            ) from None
        written.append(path)
    return written


def config_text(detected: Detected, config: AppConfig) -> str:
    """Return the text of dockyard.toml."""
    source = detected.dependencies.value
    lines = [
        "# What Dockyard found out about this project, and why. Change what is wrong; what you",
        "# remove is found out anew. `dockyard schema` prints every setting.",
        "",
    ]

    def add(key: str, value: object, decision: Decision[object]) -> None:
        lines.extend([f"# {_comment(str(decision))}", f"{key} = {toml(value)}", ""])

    def hint(comment: str, setting: str) -> None:
        lines.extend([f"# {comment}", f"# {setting}", ""])

    add("name", detected.name.value, detected.name)
    python = detected.python.value
    if config.base is not None:
        lines.extend([f"base = {toml(config.base)}", ""])
    if str(python) != "any" and python.firm:
        add("python", str(python), detected.python)
    else:
        hint("The newest Python that the base has; another one:", 'python = "3.11"')
    if config.apt:
        lines.extend([f"apt = {toml(config.apt)}", ""])
    else:
        hint("Debian packages that the app needs:", 'apt = ["libgl1"]')
    if config.requirements:
        lines.extend([f"requirements = {toml(config.requirements)}", ""])
    elif source.files:
        file = source.files[0]
        add("requirements", file, detected.dependencies)
    for key, names in (("extras", config.extras), ("groups", config.groups)):
        if names:
            lines.extend([f"{key} = {toml(names)}", ""])
    if detected.accelerator.value != "auto":
        add("accelerator", detected.accelerator.value, detected.accelerator)
    else:
        hint(_comment(str(detected.accelerator)) + ":", 'accelerator = "cpu"')
    add("workdir", detected.workdir.value, detected.workdir)
    if detected.serving is None:
        add("command", list(detected.command.value), detected.command)
    if detected.entrypoint.value:
        add("entrypoint", list(detected.entrypoint.value), detected.entrypoint)
    if detected.ports.value:
        ports = [
            port.number if port.protocol == "tcp" else str(port) for port in detected.ports.value
        ]
        add("ports", ports, detected.ports)
    lines.extend(_others(config))
    if detected.serving is None:
        lines.extend(_health(detected.healthcheck))
    else:
        lines.extend(_serve(detected.serving, config))
    lines.extend(_environment(detected, config))
    if config.labels:
        lines.extend(["[labels]", *(f"{toml(k)} = {toml(v)}" for k, v in config.labels.items())])
    return "\n".join(lines).rstrip("\n") + "\n"


def ignore_text(detected: Detected) -> str:
    """Return the text of .dockerignore, without patterns that would hide what the app needs."""
    needed = {path.split("/")[0] for path in detected.models.value}
    if detected.module:
        needed.add(detected.module.split("/")[0])
    lines = [line for line in _IGNORE.splitlines() if line not in needed]
    return "\n".join(lines) + "\n"


def toml(value: object) -> str:
    """A value in TOML's notation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML's basic strings are JSON's, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return str(value)


def _others(config: AppConfig) -> list[str]:
    """Settings that detection has no part in, kept as they were set."""
    lines: list[str] = []
    for key in (
        *(
            "tags",
            "shell",
            "prefer",
            "env_file",
            "include",
            "exclude",
            "user",
            "platforms",
            "bytecode",
        ),
        *("trim", "compression"),
    ):
        if key in config.model_fields_set:
            name = key.replace("_", "-")
            lines.extend([f"{name} = {toml(getattr(config, key))}", ""])
    return lines


def _serve(serving: Serving, config: AppConfig) -> list[str]:
    """The table that has the server started; its health check comes with it."""
    reason = f"{serving.why} ({serving.where})" if serving.where else serving.why
    lines = [f"# {_comment(reason)}", "[serve]", f"model = {toml(serving.target)}"]
    said = config.serve
    for key in sorted(said.model_fields_set - {"model", "inputs"}) if said is not None else ():
        value = getattr(said, key)
        value = duration_text(value) if isinstance(value, timedelta) else value
        lines.append(f"{key.replace('_', '-')} = {toml(value)}")
    if said is not None and said.inputs:
        listed = ", ".join(f"{_key(name)} = {toml(text)}" for name, text in said.inputs.items())
        lines.append(f"inputs = {{ {listed} }}")
    return [*lines, ""]


def _health(decision: Decision[HealthCheck | None]) -> list[str]:
    check = decision.value
    reason = f"# {_comment(str(decision))}"
    if check is None:
        return [reason, "healthcheck = false", ""]
    lines = [reason, "[healthcheck]"]
    if check.kind == "command":
        lines.append(f"command = {toml(list(check.command))}")
    else:
        if check.kind == "http":
            lines.append(f"path = {toml(check.path)}")
        lines.append(f"port = {check.port}")
    lines += [
        f"interval = {toml(duration_text(check.interval))}",
        f"timeout = {toml(duration_text(check.timeout))}",
        f"start-period = {toml(duration_text(check.start_period))}",
        f"retries = {check.retries}",
        "",
    ]
    return lines


def _environment(detected: Detected, config: AppConfig) -> list[str]:
    """The variables, without those that stay in env files."""
    env = {
        name: decision
        for name, decision in detected.env.items()
        if decision.where not in config.env_file or name in config.env
    }
    if not env:
        return ["# Environment variables of the image (no secrets: give those with -e):", "# [env]"]
    lines = ["[env]"]
    for name, decision in env.items():
        lines.append(f"# {_comment(str(decision))}")
        lines.append(f"{_key(name)} = {toml(decision.value)}")
    return [*lines, ""]


def _key(name: str) -> str:
    plain = name.replace("_", "").replace("-", "").isalnum() and name.isascii()
    return name if plain else toml(name)


def _comment(text: str) -> str:
    """One line that can stand behind "#"."""
    cleaned = "".join(character if character.isprintable() else " " for character in text)
    return cleaned[:1].upper() + cleaned[1:]
