"""Secrets on their way into a container: files that it reads at /run/secrets, and nowhere else.

Rules: never in the environment, the image, a label or a command line. Readable by every user of
the container, because only its own processes see the folder.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.engine.spec import Secret

_LARGEST = 500 << 10  # Bytes, as Swarm's: a larger file is no secret but a mistake.


def read_secret(secret: Secret) -> bytes:
    """A secret's bytes; raises UsageError when its file can't be read or is too large."""
    try:
        with secret.file.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(
            f"the file of the secret {secret.name} can't be read: {error.strerror}",
            where=str(secret.file),
        ) from error
    if len(data) > _LARGEST:
        raise UsageError(
            f"the secret {secret.name} is larger than {_LARGEST >> 10} kB",
            where=str(secret.file),
            hint="Mount a large file instead: -v FILE:PATH:ro",
        )
    return data


def pack_secrets(secrets: Sequence[Secret]) -> bytes:
    """A tar of the secrets, to unpack at /run/secrets."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for secret in secrets:
            data = read_secret(secret)
            member = tarfile.TarInfo(secret.name)
            member.size, member.mode = len(data), 0o444
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
