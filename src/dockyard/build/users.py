"""The user that an image runs as: whether the base knows it, and what programs call it.

Rules: numbers need no entry anywhere, names must be in the base's /etc/passwd and /etc/group, or
the container can't start. Another image's users are its own affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.build.foundation import DebianFoundation
from dockyard.errors import BuildError

if TYPE_CHECKING:
    from dockyard.build.foundation import Foundation

DEFAULT_NAME = "app"


def check_user(user: str, foundation: Foundation) -> None:
    """Raise BuildError when the base has no user or group of this name."""
    name, _, group = user.partition(":")
    if not isinstance(foundation, DebianFoundation) or not _named(name, group):
        return
    users, groups = _names(foundation)
    for kind, wanted, known in (("user", name, users), ("group", group, groups)):
        if _named(wanted) and wanted not in known:
            raise BuildError(
                f"the base has no {kind} {wanted!r}",
                where="`user`",
                hint=f"It has {', '.join(known)}; a number, such as 10001, needs no entry.",
            )


def user_name(user: str) -> str:
    """What $USER says, for programs that ask and find no entry for a bare number."""
    name = user.partition(":")[0]
    if name.isdigit():
        return "root" if int(name) == 0 else DEFAULT_NAME
    return name


def _named(*parts: str) -> bool:
    return any(part and not part.isdigit() for part in parts)


def _names(foundation: DebianFoundation) -> tuple[list[str], list[str]]:
    from dockyard.debian.generated import root_entries

    base = foundation.base
    found = {
        entry.path: b"".join(entry.source.chunks()).decode()
        for entry in root_entries(
            architecture=base.architecture, python=base.python, shell=base.shell
        )
        if entry.source is not None
    }

    def first_words(path: str) -> list[str]:
        return [line.partition(":")[0] for line in found[path].splitlines()]

    return first_words("etc/passwd"), first_words("etc/group")
