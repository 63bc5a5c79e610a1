"""Debian policy: signed releases, package indexes, packages, and the base made from them."""

from dockyard.debian.base import BaseFiles, DebianBase, base_entries, resolve_apt, resolve_base
from dockyard.debian.mirror import Mirror, find_mirror
from dockyard.debian.packages import DebianPackage, fetch_packages

__all__ = [
    "BaseFiles",
    "DebianBase",
    "DebianPackage",
    "Mirror",
    "base_entries",
    "fetch_packages",
    "find_mirror",
    "resolve_apt",
    "resolve_base",
]
