"""Which part loads a model: a file's format, or a Python class."""

from __future__ import annotations

from dockyard_serve.model import Model, Source


def load_source(source: Source) -> Model:
    """Load what `source` names; raises LoadError."""
    if source.spec is not None:
        from dockyard_serve.predictor import load_class

        return load_class(source)
    from dockyard_serve.formats import load_file

    return load_file(source)
