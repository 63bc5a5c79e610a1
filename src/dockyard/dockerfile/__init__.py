"""Dockerfiles: their text, stages and commands, every part with its place in the file."""
