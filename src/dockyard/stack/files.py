"""Write a stack's files into a project: the Compose file, what it mounts, and its passwords.

Rules: a Compose file that Dockyard didn't write is never replaced unless forced. A password is made
once and kept; its folder is its owner's alone and ignored by Git, while the file itself can be read
by whatever user a container runs as. Files are replaced whole, or not at all.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import StackError
from dockyard.stack.compose import MARK, compose_text
from dockyard.stack.parts import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dockyard.stack.parts import Stack

COMPOSE_NAME = "compose.yaml"
OWN_FOLDER = ".dockyard"
"""The folder in a project for what is made anew when it is missing."""

_LENGTH = 32  # Characters of [A-Za-z0-9_-]: 192 bits, and nothing that a URL must escape.


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: the Compose file, further files, and the secrets that were made."""

    compose: Path
    files: tuple[Path, ...] = ()
    secrets: tuple[str, ...] = ()


def write_stack(stack: Stack, project: Path, into: Path, *, force: bool = False) -> Written:
    """Write the stack's files into a folder, and its missing secrets into the project.

    Raises StackError when there is a Compose file that someone else wrote.
    """
    target = into / COMPOSE_NAME
    if not force and target.exists() and not is_ours(target):
        raise StackError(
            "is there already, and Dockyard didn't write it",
            where=str(target),
            hint="To replace it: `dockyard compose --force`. `dockyard up` uses it as it is.",
        )
    if into.name == OWN_FOLDER or stack.generated_secrets:
        own_folder(project)
    written = []
    for path, text in stack.files.items():
        replace_file(into / path, text)
        written.append(into / path)
    replace_file(target, compose_text(stack))
    made = make_secrets(stack, project)
    return Written(compose=target, files=tuple(written), secrets=made)


def is_ours(path: Path) -> bool:
    """Whether Dockyard wrote a Compose file."""
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def make_secrets(stack: Stack, project: Path) -> tuple[str, ...]:
    """Make the stack's own secrets that aren't there yet; return their names."""
    made = []
    if not stack.generated_secrets:
        return ()
    folder = own_folder(project) / SECRETS.rpartition("/")[2]
    with _told(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    for name in stack.generated_secrets:
        path = folder / name
        if path.exists():
            continue
        replace_file(path, secrets.token_urlsafe(_LENGTH)[:_LENGTH], mode=0o444)
        made.append(name)
    return tuple(made)


def own_folder(project: Path) -> Path:
    """The project's folder for what is made anew; Git ignores it."""
    folder = project / OWN_FOLDER
    with _told(folder):
        folder.mkdir(exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        replace_file(ignore, "*\n")
    return folder


def replace_file(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file whole; containers of any user may read it."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            draft.chmod(mode)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say which path can't be written."""
    try:
        yield
    except OSError as error:
        raise StackError(f"can't be written: {error.strerror or error}", where=str(path)) from error
