"""What turns texts into vectors.

Needs: NumPy.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""One row a text; each of length 1, so that the dot product of two is their cosine similarity."""


class EmbeddingError(Exception):
    """What came back are not the vectors that were asked for."""

    type = "embedding_failed"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Embedder(Protocol):
    """A model that places texts near those alike."""

    @property
    def model(self) -> str:
        """The name under which its vectors are stored: those of two names never compare."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row for each text, in order; of no texts, no rows."""
        ...
