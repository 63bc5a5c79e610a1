"""The Dockerfile that makes what Dockyard builds, for those who must build with Docker.

Rules:
- Decided from the same inputs and plan as an image: base, packages, files, configuration. It builds
  with BuildKit (Docker 20.10 and newer) and Podman, and needs no frontend from a registry.
- Packages come from pylock.toml, with their hashes, into an environment of a stage of its own; what
  installs them isn't in the image. The most stable is copied first, code last.
- The ignore file beside it lets in what Dockyard would take and nothing else, so that copying a
  folder copies the same files.
- Dockyard assembles its base from Debian packages; a Dockerfile stands on python:X-slim of the same
  suite instead.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.app.entries import WRITABLE
from dockyard.build.foundation import DebianFoundation
from dockyard.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dockyard.build.inputs import Inputs
    from dockyard.build.plan import BuildPlan
    from dockyard.oci.config import Healthcheck, ImageConfig

MARK = "# Written by `dockyard dockerfile`"
LOCK = "pylock.toml"
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedDockerfile:
    """A Dockerfile, its ignore file, and what the two can't say."""

    text: str
    ignore: str
    needs_lock: bool
    warnings: tuple[str, ...]


def generate_dockerfile(
    inputs: Inputs, plan: BuildPlan, *, base: str | None = None, uv: str
) -> GeneratedDockerfile:
    """Make the Dockerfile of one platform's plan.

    base: the image to stand on, instead of the one that suits; uv: the version that installs.
    Raises BuildError for a base that no registry has.
    """
    image = base or base_image(inputs)
    needs_lock = bool(inputs.lock.wheels)
    models = sorted(entry.path for entry in inputs.app.models if entry.kind != "directory")
    code = sorted(entry.path for entry in inputs.app.code if entry.kind != "directory")
    root = plan.config.working_dir.strip("/")
    parts = [_header(inputs)]
    if needs_lock:
        parts.append(_environment_stage(inputs, image, uv))
    parts.append(_final_stage(inputs, plan, image, root, models, code, needs_lock=needs_lock))
    names = [path.removeprefix(root + "/") for path in (*models, *code)]
    return GeneratedDockerfile(
        text="\n".join(parts),
        ignore=_ignore_text(inputs.detected.folder, names, needs_lock=needs_lock),
        needs_lock=needs_lock,
        warnings=tuple(_warnings(inputs)),
    )


def base_image(inputs: Inputs) -> str:
    """The image that the Dockerfile stands on; raises BuildError for one that is only local."""
    foundation = inputs.foundation
    if isinstance(foundation, DebianFoundation):
        return f"python:{inputs.python}-slim-{foundation.base.suite}"
    if foundation.name.partition(":")[0] in ("oci", "archive"):
        raise BuildError(
            f"a Dockerfile can't stand on {foundation.name}",
            where="`base`",
            hint="Push that image and name it: dockyard dockerfile --base IMAGE.",
        )
    return foundation.name


def _header(inputs: Inputs) -> str:
    name = inputs.detected.name.value
    return (
        f"{MARK}; to write it anew: dockyard dockerfile --force\n"
        "# BuildKit (Docker 23; 20.10 with DOCKER_BUILDKIT=1) and Podman build it:\n"
        f"#   docker build -t {name} .\n"
        f"# Packages are in {LOCK} (dockyard lock), files in the ignore file beside this one.\n"
    )


def _environment_stage(inputs: Inputs, image: str, uv: str) -> str:
    system = ""
    if not isinstance(inputs.foundation, DebianFoundation):
        system = " --system-site-packages" if inputs.foundation.provided else ""
    return (
        f"FROM {image} AS environment\n"
        "RUN --mount=type=cache,target=/root/.cache/pip \\\n"
        f"    pip install --root-user-action=ignore --target /opt/uv uv=={uv}\n"
        "ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never\n"
        f"RUN /opt/uv/bin/uv venv --clear{system} --python python{inputs.python} /opt/venv\n"
        "RUN --mount=type=cache,target=/root/.cache/uv \\\n"
        f"    --mount=type=bind,source={LOCK},target=/lock/{LOCK} \\\n"
        f"    VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip sync --preview /lock/{LOCK}\n"
    )


def _final_stage(
    inputs: Inputs,
    plan: BuildPlan,
    image: str,
    root: str,
    models: list[str],
    code: list[str],
    *,
    needs_lock: bool,
) -> str:
    config = plan.config
    lines = [f"FROM {image}"]
    if inputs.config.apt:
        lines += [
            "# hadolint ignore=DL3008",
            "RUN apt-get update \\",
            f"    && apt-get install -y --no-install-recommends {' '.join(inputs.config.apt)} \\",
            "    && rm -rf /var/lib/apt/lists/*",
        ]
    folders_of_code = (entry for entry in inputs.app.code if entry.kind == "directory")
    writable = [entry.path for entry in folders_of_code if entry.mode == WRITABLE]
    if writable:
        folders = " ".join(_word("/" + path) for path in writable)
        lines.append(f"RUN install -d -m 1777 {folders}")
    lines += _env_lines(config.env, in_venv=needs_lock)
    if needs_lock:
        lines.append("COPY --from=environment /opt/venv /opt/venv")
    lines.append(f"WORKDIR {config.working_dir}")
    lines += _copies(models, (path for path in code), root)
    lines += _copies(code, (path for path in models), root)
    labels = {**config.labels, "org.opencontainers.image.base.name": image}
    lines += [f"LABEL {name}={_quoted(value)}" for name, value in sorted(labels.items())]
    lines += [f"EXPOSE {port}" for port in config.exposed_ports]
    if config.stop_signal and config.stop_signal != "SIGTERM":
        lines.append(f"STOPSIGNAL {config.stop_signal}")
    if config.user:
        lines.append(f"USER {config.user}")
    if config.healthcheck is not None:
        lines.append(_healthcheck_line(config.healthcheck))
    lines += _command_lines(config)
    return "\n".join(lines) + "\n"


def _env_lines(env: Mapping[str, str], *, in_venv: bool) -> list[str]:
    """ENV, one instruction; the base's own PATH stays behind the environment's."""
    pairs = {name: _quoted(value) for name, value in env.items() if name != "PATH"}
    if in_venv:
        pairs = {"PATH": '"/opt/venv/bin:$PATH"'} | pairs
    if not pairs:
        return []
    lines = [f"    {name}={value} \\" for name, value in pairs.items()]
    lines[-1] = lines[-1].removesuffix(" \\")
    return ["ENV " + lines[0].strip(), *lines[1:]] if len(lines) == 1 else ["ENV \\", *lines]


def _copies(own: Iterable[str], others: Iterable[str], root: str) -> list[str]:
    """COPY lines for paths of the image: whole folders where nothing of the others is in them."""
    foreign = {parent for path in others for parent in _parents(path.removeprefix(root + "/"))}
    groups: dict[str, dict[str, None]] = {}
    for path in own:
        inner = path.removeprefix(root + "/")
        above = _parents(inner)
        folder = next((parent for parent in above if parent not in foreign), None)
        if folder is not None:
            groups.setdefault(folder, {})[folder] = None
        else:
            groups.setdefault(posixpath.dirname(inner), {})[inner] = None
    lines = []
    for target, sources in sorted(groups.items()):
        is_folder = list(sources) == [target] and target != ""
        place = f"/{root}/{target}".rstrip("/") + ("" if is_folder else "/")
        words = [*sources, place]
        if all(_PLAIN.fullmatch(word) for word in words):
            lines.append(f"COPY {' '.join(words)}")
        else:
            lines.append(f"COPY {json.dumps(words, ensure_ascii=False)}")
    return lines


def _parents(path: str) -> list[str]:
    """The folders that a path is in, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: length + 1]) for length in range(len(parts))]


def _healthcheck_line(check: Healthcheck) -> str:
    words = list(check.test[1:]) if check.test[:1] == ("CMD",) else list(check.test)
    return (
        f"HEALTHCHECK --interval={check.interval:g}s --timeout={check.timeout:g}s "
        f"--start-period={check.start_period:g}s --retries={check.retries} \\\n"
        f"    CMD {json.dumps(words, ensure_ascii=False)}"
    )


def _command_lines(config: ImageConfig) -> list[str]:
    lines = []
    if config.entrypoint:
        lines.append(f"ENTRYPOINT {json.dumps(list(config.entrypoint), ensure_ascii=False)}")
    if config.cmd:
        lines.append(f"CMD {json.dumps(list(config.cmd), ensure_ascii=False)}")
    return lines


def _quoted(value: str) -> str:
    """A value of ENV or LABEL as the reference has it: in double quotes where it needs them."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    if "\n" in escaped:
        raise BuildError(
            "a Dockerfile can't hold a value of several lines",
            where=value.splitlines()[0][:40],
            hint="Give that variable at run time.",
        )
    return f'"{escaped}"'


def _word(path: str) -> str:
    return path if _PLAIN.fullmatch(path) else "'" + path.replace("'", "'\\''") + "'"


def _ignore_text(root: Path, names: list[str], *, needs_lock: bool) -> str:
    patterns = _patterns(root, names)
    lines = [
        f"{MARK}: what Dockyard takes of the project, and nothing else.",
        "*",
        *([f"!{LOCK}"] if needs_lock else []),
        *(f"!{_escaped(pattern)}" for pattern in patterns),
    ]
    return "\n".join(lines) + "\n"


def _patterns(root: Path, names: list[str]) -> list[str]:
    """The files, or folders of which everything on disk is taken."""
    taken = set(names)
    partly = _partly_taken(root, taken)
    found: dict[str, None] = {}
    for name in sorted(taken):
        whole = next((parent for parent in _parents(name) if parent not in partly), None)
        found[whole or name] = None
    return list(found)


def _partly_taken(root: Path, taken: set[str]) -> set[str]:
    """The folders above taken files that hold something which isn't taken."""
    above = {parent for name in taken for parent in _parents(name)}
    partly: set[str] = set()
    for folder in sorted(above, key=lambda path: -path.count("/")):
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}"
                is_folder = entry.is_dir(follow_symlinks=False)
                if (is_folder and (path not in above or path in partly)) or (
                    not is_folder and path not in taken
                ):
                    partly.add(folder)
                    break
    return partly


def _escaped(pattern: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", pattern)


def _warnings(inputs: Inputs) -> Iterable[str]:
    for file in inputs.detected.project.files:
        if file.kind == "symlink" and "/" not in file.path:
            yield f"{file.path} is a link, in whose place Docker copies what it leads to"
        elif file.kind == "file" and not file.absolute.stat().st_mode & 0o004:
            yield (
                f"{file.path} isn't readable for everyone, and Docker keeps modes: "
                f"chmod o+r {file.path}"
            )
    if inputs.config.trim:
        yield "`trim` isn't done in a Dockerfile: tests and headers stay in the image"
    local = [wheel.name for wheel in inputs.lock.wheels if not re.match(r"https?://", wheel.url)]
    if local:
        more = f" and {len(local) - 5} more" if len(local) > 5 else ""
        yield (
            f"{', '.join(local[:5])}{more}: their files are on this machine, where a build with "
            f"Docker doesn't see them; take them from an index"
        )
