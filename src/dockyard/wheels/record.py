"""RECORD: what a wheel says of its own files, and what the installed tree says of itself.

Rules:
- In the wheel it gives each file's hash, which the packer checks in the pass that reads the file.
  A wrong hash is an error; pip doesn't look. A file it doesn't list is installed as pip does, and
  named in the result (the wheel as a whole is held by the lock's hash).
- In the tree its rows are the wheel's own with the installed paths, then the generated files,
  then what wasn't listed; sorted as text, written by csv with its CRLF lines: pip's very bytes.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dockyard.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dockyard.wheels.splice import Member, WheelFile

Row = tuple[str, str, str]

# "sha256 or better" (binary distribution format, "The .dist-info directory")
_ALGORITHMS: Final = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A hash from RECORD."""

    algorithm: str
    value: bytes


def parse_record(data: bytes, *, where: str) -> list[Row]:
    """Return the rows (path, hash, size) of a RECORD file; raises WheelError."""
    try:
        lines = data.decode("utf-8").splitlines()
        rows = [row for row in csv.reader(lines) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheelError(f"RECORD can't be read: {error}", where=where, hint=_HINT) from error
    return [
        (row[0], row[1] if len(row) > 1 else "", row[2] if len(row) > 2 else "") for row in rows
    ]


def check_member(wheel: WheelFile, member: Member, row: Row | None) -> bytes | None:
    """Return the SHA-256 that the member must have, for the packer to check; None if unknown.

    Any check that can't be left to the packer is made here: other algorithms, the size, and the
    content of what is stored without a SHA-256. Raises WheelError.
    """
    size = row[2] if row else ""
    if size and size != str(member.size):
        raise WheelError(
            f"{member.name!r} has {member.size} bytes, RECORD says {size}",
            where=wheel.filename,
            hint=_HINT,
        )
    digest = _parse_hash(row[1], member.name, wheel.filename) if row and row[1] else None
    if digest and digest.algorithm == "sha256" and member.size:
        return digest.value
    if digest:
        check = hashlib.new(digest.algorithm)
        for chunk in wheel.chunks(member):
            check.update(chunk)
        if check.digest() != digest.value:
            raise WheelError(
                f"{member.name!r} doesn't have the hash that RECORD gives",
                where=wheel.filename,
                hint=_HINT,
            )
    elif member.size and member.method == 0:
        # A copied slice carries no CRC-32, so check it now and let the packer compare the hash.
        found = hashlib.sha256()
        for chunk in wheel.chunks(member):
            found.update(chunk)
        return found.digest()
    return None


def _parse_hash(text: str, name: str, where: str) -> Digest:
    algorithm, _, encoded = text.partition("=")
    if algorithm not in _ALGORITHMS:
        raise WheelError(
            f"RECORD gives {name!r} a hash of kind {algorithm!r}",
            where=where,
            hint="Wheels must use sha256, sha384 or sha512; ask its maintainers for a new one.",
        )
    try:
        value = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != hashlib.new(algorithm).digest_size:
        raise WheelError(f"RECORD gives {name!r} a hash that is none", where=where, hint=_HINT)
    return Digest(algorithm=algorithm, value=value)


def content_row(path: str, data: bytes) -> Row:
    """Return the row for a generated file; `path` is relative to site-packages."""
    value = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return path, f"sha256={value}", str(len(data))


def format_record(
    shipped: Iterable[Row],
    *,
    installed: Mapping[str, str],
    changed: Mapping[str, Row],
    generated: Iterable[Row],
    left_out: Collection[str],
) -> bytes:
    """Return the RECORD of the installed tree.

    shipped: the wheel's rows; installed: path in the wheel -> path as installed; changed: installed
    path -> its new row; left_out: installed paths that aren't there after all. Paths are relative
    to site-packages.
    """
    unlisted = dict(installed)
    rows: list[Row] = []
    for path, digest, size in shipped:
        new = unlisted.pop(path, path)
        if new not in left_out:
            rows.append(changed.get(new, (new, digest, size)))
    rows += generated
    rows += [(path, "", "") for path in unlisted.values() if path not in left_out]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(sorted(rows))
    return text.getvalue().encode()


_HINT = "The wheel is damaged or was changed after it was built; fetch it again or pin another one."
