"""The command line: one file per command; each reads flags, calls one function and prints."""

from dockyard.cli.main import main

__all__ = ["main"]
