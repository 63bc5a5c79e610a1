"""The containers that a command names, and doing one thing to each of them.

Rules: a name that isn't there is answered with the nearest ones. What can't be done to one doesn't
keep the others from it: every failure is said, and the exit code is 1.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dockyard.errors import DockyardError, EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockyard.engine.api import ContainerState, Engine

_AT_ONCE = 16


def need_container(engine: Engine, name: str) -> ContainerState:
    """The container of this name or id."""
    state = engine.container(name)
    if state is None:
        raise absent(engine, name)
    return state


def absent(engine: Engine, name: str) -> EngineError:
    """The error about a container that isn't there, with the names that it could have been."""
    from difflib import get_close_matches

    names = [state.name for state in engine.containers(label=None)]
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "List those there are: dockyard ps -a"
    return EngineError(f"there is no container {name}", hint=hint)


def need_names(names: Sequence[str]) -> None:
    """Refuse an empty list."""
    if not names:
        raise UsageError("no container is named", hint="List those there are: dockyard ps")


def for_each(names: Sequence[str], act: Callable[[str], str | None]) -> int:
    """Do something to each, at once; print what it returns in the given order; the exit code."""
    from dockyard.cli.main import show_error

    def attempt(name: str) -> str | DockyardError | None:
        try:
            return act(name)
        except DockyardError as error:
            return error

    code = 0
    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(names)))) as pool:
        for result in pool.map(attempt, names):
            if isinstance(result, DockyardError):
                show_error(result)
                code = max(code, result.exit_code)
            elif result is not None:
                print(result, flush=True)
    return code
