"""Dockyard: from a deep-learning project to a container image and production."""

__version__ = "0.1.0"
