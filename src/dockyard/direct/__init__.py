"""Dockerfiles built without an engine: what can be understood becomes its layer."""
