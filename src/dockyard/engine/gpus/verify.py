"""Look inside a started container for the GPUs that it asked for.

Rules: NVIDIA's own `nvidia-smi`, which the engine mounts, is asked first, because it names the
devices; then the device nodes, by a shell or by Python. What an image has none of to ask with
can't be looked at, which is said. A container that has ended can't be asked either, and had its
devices: engines refuse to start it otherwise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.engine.api import Execution
from dockyard.engine.spec import is_cdi_name
from dockyard.errors import EngineError
from dockyard.progress import SILENT, Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.engine.api import Engine
    from dockyard.engine.spec import Gpus

_UUID = re.compile(r"\b((?:GPU|MIG)-[0-9a-f][0-9a-f-]+)", re.IGNORECASE)
_NODES = "/dev/nvidia[0-9]*"
_LOOK: tuple[tuple[str, ...], ...] = (
    # An unmatched pattern stays as it is; /dev/dxg is the GPU of WSL 2.
    ("/bin/sh", "-c", f"for f in {_NODES} /dev/dxg; do [ -e $f ] && exit 0; done; exit 1"),
    (
        "python3",
        "-c",
        f"import glob, sys; sys.exit(not (glob.glob('{_NODES}') + glob.glob('/dev/dxg')))",
    ),
)
_CANT_RUN = (126, 127)


def verify_gpus(engine: Engine, container: str, gpus: Gpus, *, reporter: Reporter = SILENT) -> None:
    """Raise EngineError when the running container lacks GPUs that it asked for."""
    wanted = {name for name in gpus.ids if name.startswith(("GPU-", "MIG-"))}
    if gpus.ids and all(is_cdi_name(name) for name in gpus.ids):
        return  # Other vendors' devices: the engine refuses what it doesn't know.
    answer = _run(engine, container, ("nvidia-smi", "-L"))
    if answer is not None:
        seen = set(_UUID.findall(answer[1]))
        if answer[0] != 0 or not seen:
            raise _lacking(container, f"nvidia-smi says: {answer[1].strip()[-300:] or 'nothing'}")
        if not wanted <= seen:
            raise _lacking(container, f"it was to get {_list(wanted)}, and sees {_list(seen)}")
        return
    for command in _LOOK:
        answer = _run(engine, container, command)
        if answer is not None:
            if answer[0] != 0:
                raise _lacking(container, "it has no device node /dev/nvidia…")
            return
    state = engine.container(container)
    if state is not None and not state.ended:
        reporter.warn("The image has nothing to look for its GPUs with; they are unverified")


def _run(engine: Engine, container: str, command: Sequence[str]) -> tuple[int, str] | None:
    """Exit code and output; None when the container hasn't the program or has ended."""
    try:
        session = engine.execute(container, Execution(command=tuple(command)))
        output = b"".join(chunk.data for chunk in session.output())
        code = session.wait()
    except EngineError:
        return None
    return None if code in _CANT_RUN else (code, output.decode("utf-8", "replace"))


def _list(uuids: set[str]) -> str:
    return ", ".join(sorted(uuids))


def _lacking(container: str, why: str) -> EngineError:
    return EngineError(
        f"the container asked for GPUs and has none of its own: {why}",
        where=container,
        hint="Check the NVIDIA Container Toolkit on the engine's machine (nvidia-ctk --version), "
        "or run without --gpus to compute on the CPU.",
    )
