"""Debian policy: signed releases, package indexes, packages, and the base made from them."""
