"""From inputs to a plan: which layers, in which order, and how the image starts.

Rules:
- Decides only; nothing is fetched or read here (see `plan` for the order of layers).
- The environment says what frameworks need to run unprivileged on a read-only root: HOME is a
  place that can be written, USER a name even where the user is a bare number (PyTorch's compiler
  asks for it), and LD_LIBRARY_PATH is never set.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from dockyard import __version__
from dockyard.build.describe import line_for
from dockyard.build.environment import image_venv
from dockyard.build.foundation import DebianFoundation
from dockyard.build.host import why_not_runnable
from dockyard.build.plan import (
    BuildPlan,
    Decision,
    PlannedLayer,
    cuda_environment,
    is_grouped,
    plan_wheel_layers,
)
from dockyard.build.users import check_user, user_name
from dockyard.oci.config import Healthcheck, ImageConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dockyard.build.inputs import Inputs
    from dockyard.build.plan import Compiles
    from dockyard.files import FileEntry

_RUNNABLE = ("usr/local/bin/", "usr/bin/", "opt/python/bin/")
_PATH = "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def plan_image(inputs: Inputs, references: Sequence[str]) -> BuildPlan:
    """Decide one platform's image."""
    check_user(inputs.config.user, inputs.foundation)
    warnings = list(inputs.warnings)
    decisions = list(inputs.decisions)
    below = _foundation_layers(inputs)
    server = _server_layer(inputs)
    bytecode = _bytecode_layer(inputs, decisions, warnings)
    above = _app_layers(inputs)
    base_layers = 0
    if not isinstance(inputs.foundation, DebianFoundation):
        base_layers = len(inputs.foundation.image.layers)
    others = base_layers + len(below) + len(server) + len(bytecode) + len(above)
    wheels = plan_wheel_layers(inputs.lock.wheels, other_layers=others)
    cuda = cuda_environment(inputs.lock.wheels)
    if cuda:
        value = cuda.get("NVIDIA_REQUIRE_CUDA", "CUDA").replace("cuda>=", "CUDA ")
        decisions.append(
            Decision(
                subject="cuda",
                value=value,
                why="the resolved wheels bring it; "
                'accelerator = "cpu" makes a far smaller image without',
            )
        )
    return BuildPlan(
        references=tuple(references),
        platform=inputs.platform,
        python=inputs.python,
        layers=(*below, *wheels, *server, *bytecode, *above),
        config=_image_config(inputs, cuda),
        decisions=tuple(decisions),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _foundation_layers(inputs: Inputs) -> list[PlannedLayer]:
    foundation = inputs.foundation
    if not isinstance(foundation, DebianFoundation):
        entries = image_venv(foundation, {wheel.name for wheel in inputs.lock.wheels})
        return [
            PlannedLayer(
                kind="python",
                title="Python environment",
                origin=foundation.name,
                why="the packages' own folder, apart from the base's",
                created_by=line_for("python"),
                size=0,
                entries=tuple(entries),
            )
        ]
    base = foundation.base
    layers = [
        PlannedLayer(
            kind="base",
            title=f"base: Debian {base.suite}, Python {base.python}",
            origin=f"{len(base.packages)} Debian packages",
            why="shared by every image with this Python",
            created_by=line_for(
                "base",
                ((package.name, package.version) for package in base.packages),
                note=base.suite,
            ),
            size=sum(package.size for package in base.packages),
        )
    ]
    if foundation.apt:
        names = " ".join(inputs.config.apt)
        layers.append(
            PlannedLayer(
                kind="apt",
                title=f"Debian packages: {names}",
                origin=f"{len(foundation.apt)} Debian packages",
                why="`apt` asks for them",
                created_by=line_for(
                    "apt",
                    ((package.name, package.version) for package in foundation.apt),
                    note=names,
                ),
                size=sum(package.size for package in foundation.apt),
            )
        )
    return layers


def _server_layer(inputs: Inputs) -> list[PlannedLayer]:
    if not inputs.server:
        return []
    return [
        PlannedLayer(
            kind="server",
            title="Dockyard's server",
            origin=f"{len(inputs.server)} files of Dockyard {__version__}",
            why="shared by every image that it serves",
            created_by=line_for("server", note=__version__),
            size=sum(entry.size for entry in inputs.server),
            entries=inputs.server,
        )
    ]


def _bytecode_layer(
    inputs: Inputs, decisions: list[Decision], warnings: list[str]
) -> list[PlannedLayer]:
    mode = inputs.config.bytecode
    if mode == "none":
        return []
    reason = why_not_runnable(inputs.platform.architecture)
    folder = posixpath.dirname(inputs.foundation.interpreter)
    if reason is None and f"{folder}/" not in _RUNNABLE:
        reason = f"the base's Python is in /{folder}, where it can't be run from here"
    if reason is not None:
        warnings.append(f"this image starts slower, for it has no bytecode: {reason}")
        return []
    what = "the modules that start-up imports" if mode == "profile" else "all modules"
    decisions.append(
        Decision(subject="bytecode", value=mode, why=f"{what} are compiled beforehand")
    )
    parts: tuple[tuple[Compiles, str], ...] = (("all", "bytecode"),)
    if is_grouped(inputs.lock.wheels):
        parts = (("large", "bytecode"), ("small", "bytecode of small wheels"))
    return [
        PlannedLayer(
            kind="bytecode",
            title=title,
            origin=f"compiled by the base's Python {inputs.python}",
            why="so that the app starts quickly",
            created_by=line_for("bytecode", note=mode if part == "all" else f"{mode} {part}"),
            compiles=part,
        )
        for part, title in parts
    ]


def _app_layers(inputs: Inputs) -> list[PlannedLayer]:
    layers = []
    parts: tuple[tuple[Any, str, Sequence[FileEntry], str], ...] = (
        ("model", "model files", inputs.app.models, "weights change less often than code"),
        ("app", "application code", inputs.app.code, "what changes most is on top"),
    )
    for kind, title, entries, why in parts:
        files = [entry for entry in entries if entry.kind != "directory"]
        if not entries:
            continue
        layers.append(
            PlannedLayer(
                kind=kind,
                title=title,
                origin=f"{len(files)} {'file' if len(files) == 1 else 'files'} of the project",
                why=why,
                created_by=line_for(kind),
                size=sum(entry.size for entry in entries),
                entries=tuple(entries),
            )
        )
    return layers


def _image_config(inputs: Inputs, cuda: Mapping[str, str]) -> ImageConfig:
    detected = inputs.detected
    foundation = inputs.foundation
    below = ImageConfig(platform=inputs.platform)
    if not isinstance(foundation, DebianFoundation):
        below = foundation.image.config
    env = dict(below.env)
    env["PATH"] = f"/opt/venv/bin:{env['PATH']}" if "PATH" in env else _PATH
    env |= {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",  # noqa: S108 - the one place that is writable whatever the user and root
        "USER": user_name(inputs.config.user),
        **cuda,
        **detected.variables(),
    }
    writable = [decision.value for decision in detected.writable if "," not in decision.value]
    labels = {
        **below.labels,
        "org.opencontainers.image.title": detected.name.value,
        "org.opencontainers.image.base.name": str(foundation).partition(",")[0],
        "io.dockyard.python": inputs.python,
        **(
            {"io.dockyard.framework": ",".join(detected.framework.value)}
            if detected.framework.value
            else {}
        ),
        **({"io.dockyard.cuda": inputs.lock.cuda} if inputs.lock.cuda else {}),
        # Whoever runs it with a read-only root mounts something there.
        **({"io.dockyard.writable": ",".join(writable)} if writable else {}),
        **inputs.config.labels,
    }
    return ImageConfig(
        platform=inputs.platform,
        env=env,
        entrypoint=detected.entrypoint.value or None,
        cmd=detected.command.value or None,
        working_dir=detected.workdir.value,
        user=inputs.config.user,
        exposed_ports=tuple(f"{port.number}/{port.protocol}" for port in detected.ports.value),
        volumes=below.volumes,
        labels=labels,
        stop_signal=below.stop_signal or "SIGTERM",
        healthcheck=_healthcheck(inputs),
        more=below.more,
        more_config=below.more_config,
    )


def _healthcheck(inputs: Inputs) -> Healthcheck | None:
    check = inputs.detected.healthcheck.value
    if check is None:
        return None
    return Healthcheck(
        test=("CMD", *check.words()),
        interval=check.interval.total_seconds(),
        timeout=check.timeout.total_seconds(),
        start_period=check.start_period.total_seconds(),
        retries=check.retries,
    )
