"""The Python that serves on this machine: one that has what is needed, else one made for it.

Rules: an environment that the user works in is taken as it is if everything can be imported from
it, and is never changed. Otherwise uv makes one in the cache, once for equal requirements.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.cache import Cache
    from dockyard.develop.target import ServeTarget
    from dockyard.progress import Reporter
    from dockyard.wheels.settings import IndexSettings

SERVER_MODULES = ("numpy", "orjson")
_FIND = (
    "import importlib.util as u, json, sys; "
    "print(json.dumps([sys.version_info[:2] >= (3, 11), "
    "[n for n in sys.argv[1:] if u.find_spec(n) is None]]))"
)


def find_python(target: ServeTarget) -> Path | None:
    """The first of the user's environments that has everything; None if none has."""
    modules = [*SERVER_MODULES, *target.modules]
    candidates = [Path(os.environ["VIRTUAL_ENV"])] if os.environ.get("VIRTUAL_ENV") else []
    candidates += [target.folder / ".venv", target.folder / "venv"]
    pythons = [folder / "bin" / "python" for folder in candidates]
    if not target.files:
        # Dockyard's own, where nothing says which versions a project wants.
        pythons.append(Path(sys.executable))
    return next((python for python in pythons if _has(python, modules)), None)


def _has(python: Path, modules: Sequence[str]) -> bool:
    if not python.is_file():
        return False
    try:
        done = subprocess.run(
            [python, "-c", _FIND, *modules], capture_output=True, text=True, timeout=60, check=False
        )
        new_enough, missing = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return bool(new_enough) and not missing


def make_python(
    target: ServeTarget,
    requirements: Sequence[str],
    *,
    cache: Cache,
    reporter: Reporter,
    offline: bool = False,
) -> Path:
    """An environment in the cache with the project's requirements and the server's.

    Raises BuildError with what uv says when they can't be had.
    """
    from dockyard.wheels.settings import gather_settings
    from dockyard.wheels.solver import Solver

    settings = gather_settings(target.folder)
    solver = Solver(settings=settings, cache=cache, offline=offline)
    text = "".join(f"{line}\n" for line in (*target.requirements, *requirements))
    backend = _torch_backend(target, settings)
    facts = [text, sys.version, backend, settings.fingerprint()]
    facts += [file.read_text(encoding="utf-8", errors="replace") for file in target.files]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = cache.root / "environments" / key
    python = folder / "bin" / "python"
    with cache.lock(f"environment-{key}"):
        if (folder / ".complete").exists():
            return python
        folder.parent.mkdir(parents=True, exist_ok=True)
        with reporter.task("Making an environment to serve in"):
            listed = folder.parent / f"{key}.txt"
            listed.write_text(text)
            arguments = ["pip", "install", "--quiet", "--python", str(python)]
            for file in (*target.files, listed):
                arguments += ["-r", str(file)]
            arguments += [*settings.arguments(), *backend]
            made = ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)]
            for words in (made, arguments):
                answer = solver.run(words, folder=target.folder)
                if answer.status:
                    said = settings.credentials.redact(answer.complaint.strip())
                    raise BuildError(
                        f"what is served can't be given what it needs:\n{said}",
                        where=", ".join(str(file) for file in target.files) or target.target,
                        hint="Or install it into an environment of your own, and activate that.",
                    )
            (folder / ".complete").touch()
    return python


def _torch_backend(target: ServeTarget, settings: IndexSettings) -> list[str]:
    """PyTorch's own index, where the project asks for the CPU and no local build is for it."""
    if not target.cpu:
        return []
    from dockyard.wheels.accelerator import local_cpu_builds
    from dockyard.wheels.target import Target

    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    machine = {"x86_64": "amd64"}.get(platform.machine(), "arm64")
    glibc = platform.libc_ver()[1] or "2.28"
    here = Target(python=minor, architecture=machine, glibc=glibc)
    return [] if local_cpu_builds("torch", settings, here) else ["--torch-backend", "cpu"]
