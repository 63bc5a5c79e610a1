"""A Python class as a model: its `predict` is called with what requests hold, checked by its types.

    class Predictor:
        def setup(self): ...
        def predict(self, image: Image, threshold: float = 0.5) -> list[Box]: ...

Rules: `signature` reads the class, `values` knows types that JSON lacks (images, arrays, files),
`body` reads requests, `answer` writes results, `model` runs the class. A class is loaded once in
each worker; what is wrong with it is a LoadError that says where.
"""

from __future__ import annotations

from dockyard_serve.predictor.model import PredictorModel, load_class

__all__ = ["PredictorModel", "load_class"]
