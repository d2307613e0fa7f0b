"""What turns texts into vectors. Needs NumPy."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import ServiceError

Vectors = NDArray[np.float32]
"""One row a text; each of length 1, so that the dot product of two is their cosine similarity."""


class EmbeddingError(ServiceError):
    """The answer does not hold the vectors that were asked for."""

    type = "embedding_failed"


class Embedder(Protocol):
    """A model that places similar texts near each other."""

    model: str
    """The name under which its vectors are stored: those of two names never compare."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row for each text, in order; of no texts, no rows."""
