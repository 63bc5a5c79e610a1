"""Which repositories of a registry are known to have a blob, so that it can be mounted from there.

Rules: a hint, never a fact: a mount that fails costs one request. The latest few are kept, in the
cache, under registry and digest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockyard.cache import Cache
    from dockyard.oci.digest import Digest
    from dockyard.oci.registry.api import Located

_RECORD = "registry-blobs"
_KEPT = 3


class KnownPlaces:
    """What this machine has learnt; without a cache, nothing."""

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache

    def of(self, domain: str, digest: Digest) -> list[str]:
        """Paths of repositories there that had the blob, the latest first."""
        record = self._cache.read_record(_RECORD, _key(domain, digest)) if self._cache else None
        return [str(path) for path in record] if isinstance(record, list) else []

    def learn(self, repository: Located, digests: Iterable[Digest]) -> None:
        """Remember that the repository has these."""
        if self._cache is None:
            return
        for digest in digests:
            known = self.of(repository.domain, digest)
            if known[:1] != [repository.path]:
                others = [path for path in known if path != repository.path]
                record = [repository.path, *others][:_KEPT]
                self._cache.write_record(_RECORD, _key(repository.domain, digest), record)


def _key(domain: str, digest: Digest) -> str:
    return hashlib.sha256(f"{domain}\0{digest}".encode()).hexdigest()
