"""direct_url.json: where a package came from that no index gave (PEP 610).

Rules: the content is pip's, key by key; credentials never go in, and neither do paths of the
host's file system where the file stays behind: those name only the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockyard.wheels.credentials import without_credentials

if TYPE_CHECKING:
    from dockyard.wheels.lock import LockedSource


def archive_direct_url(url: str, sha256: str | None) -> dict[str, Any]:
    """For a wheel or an archive named by URL or path."""
    info: dict[str, Any] = {}
    if sha256:
        info = {"hash": f"sha256={sha256}", "hashes": {"sha256": sha256}}
    return {"archive_info": info, "url": _public(url)}


def directory_direct_url(name: str, *, editable: bool, app: str | None = None) -> dict[str, Any]:
    """For a local project: `app` is its folder in the image when it stays editable."""
    place = f"file:///{app.strip('/')}" if app else f"file:///{name}"
    return {"dir_info": {"editable": True} if editable else {}, "url": place}


def source_direct_url(source: LockedSource) -> dict[str, Any] | None:
    """For what `source` is built into; None for a source distribution from an index."""
    if source.form == "sdist":
        return None
    if source.form == "directory":
        return directory_direct_url(source.name, editable=False)
    found: dict[str, Any]
    if source.form == "archive":
        found = archive_direct_url(source.url, source.sha256)
    else:
        info = {"vcs": source.vcs or "git", "commit_id": source.commit or ""}
        if source.requested_revision:
            info["requested_revision"] = source.requested_revision
        found = {"vcs_info": info, "url": without_credentials(source.url)}
    if source.subdirectory:
        found["subdirectory"] = source.subdirectory
    return found


def _public(url: str) -> str:
    url = without_credentials(url)
    if url.startswith("/"):
        return f"file:///{url.rpartition('/')[2]}"
    if url.startswith("file:"):
        return f"file:///{url.rpartition('/')[2]}"
    return url
