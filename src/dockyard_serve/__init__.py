"""The inference server that goes into images: model files and Python classes as a web API.

Rules: nothing here imports dockyard, so that an image holds the server and nothing of the builder.
What is named here is for those who write predictors, and needs the standard library only.
"""

from __future__ import annotations

from dockyard_serve.errors import InvalidInput
from dockyard_serve.marks import File, batched

__all__ = ["File", "InvalidInput", "batched"]
