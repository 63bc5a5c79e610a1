"""Models trained on scikit-learn's scanned digits, and what their framework answers itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dockyard_serve.formats import load_file
from dockyard_serve.model import Source


@dataclass(frozen=True)
class Digits:
    """Pictures of 8 x 8 pixels from 0 to 16, and what they show."""

    train_images: np.ndarray[Any, Any]
    train_labels: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def digits() -> Digits:
    datasets = pytest.importorskip("sklearn.datasets")
    found = datasets.load_digits()
    images = found.images.astype(np.float32)
    return Digits(images[:1400], found.target[:1400], images[1400:1450], found.target[1400:1450])


@pytest.fixture(scope="session")
def load() -> Callable[..., Any]:
    """Loads a file, with options of the operator's by keyword."""

    def load(path: Path, **options: Any) -> Any:
        return load_file(Source(name="digits", path=path, threads=1, options=options))

    return load
