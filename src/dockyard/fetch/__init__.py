"""Downloads into the cache: parallel, resumable, checked while they stream."""

from dockyard.fetch.fetcher import Download, Fetcher, local_path
from dockyard.fetch.http import StatusError, redacted

__all__ = ["Download", "Fetcher", "StatusError", "local_path", "redacted"]
