"""Users and modes as COPY, chown and chmod write them, for a stage's own /etc/passwd.

Rules: numbers need no entry; names must be in the stage's passwd and group. With COPY, a user
without a group brings the group of the same number or name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockyard.direct.filesystem import FileSystem

_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxX]*)")
_BITS = {"r": 4, "w": 2, "x": 1}
_SHIFTS = {"u": 6, "g": 3, "o": 0}


def parse_owner(text: str, files: FileSystem, *, copying: bool) -> tuple[int, int | None] | None:
    """The uid and gid of "user", "user:group"; gid None: not said. None where a name is unknown.

    copying: COPY's rule, by which a user alone brings a group too.
    """
    user, colon, group = text.partition(":")
    uid: int | None
    own_gid: int | None = None
    if user.isascii() and user.isdigit():
        uid = int(user)
        own_gid = uid if copying else None
    else:
        row = _row(files, "etc/passwd", user)
        if row is None:
            return None
        uid = int(row[2])
        if copying and not colon:
            # One builder takes the user's own group, the other the group of that name.
            named = _row(files, "etc/group", user)
            if named is None or int(named[2]) != int(row[3]):
                return None
            own_gid = int(row[3])
    if not colon:
        return uid, own_gid
    if group.isascii() and group.isdigit():
        return uid, int(group)
    row = _row(files, "etc/group", group)
    return None if row is None else (uid, int(row[2]))


def _row(files: FileSystem, path: str, name: str) -> list[str] | None:
    data = files.read(path) or b""
    for line in data.decode("utf-8", "replace").splitlines():
        row = line.split(":")
        if row[0] == name and len(row) > 3 and row[2].isdigit():
            return row if path != "etc/passwd" or row[3].isdigit() else None
    return None


def new_mode(text: str, mode: int, *, folder: bool) -> int | None:
    """The mode after chmod's words: octal, or clauses such as u=rw,go-w,+x; None for others."""
    if re.fullmatch(r"[0-7]{1,4}", text):
        return int(text, 8)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None or (match[2] == "=" and "X" in match[3]):
            return None  # =X means one thing to GNU's chmod and another to busybox's.
        who, operator, letters = match[1], match[2], match[3]
        bits = sum(_BITS[letter] for letter in set(letters) - {"X"})
        if "X" in letters and (folder or mode & 0o111):
            bits |= 1
        # Without "who", chmod leaves alone what the umask (022) takes away.
        umask = 0o022 if not who else 0
        for name in "ugo" if not who or "a" in who else who:
            shifted = (bits << _SHIFTS[name]) & ~umask
            if operator == "+":
                mode |= shifted
            elif operator == "-":
                mode &= ~shifted
            else:
                mode = (mode & ~(7 << _SHIFTS[name])) | shifted
    return mode
