"""Serving on this machine while a model or its code changes: what `dockyard serve` does."""
