"""Vectors from any server with OpenAI's `/v1/embeddings`.

Texts are sent in batches, those of one call one after another. Vectors are requested in base64, a
third of the size of decimals; lists of numbers are understood too. The dimension of the first
answer must not change.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import EmbeddingError, Vectors

BATCH = 32
"""Texts in a request: of 8,192 tokens each, as many as OpenAI takes, they are below its 300,000."""

Call = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers an OpenAI embeddings body; its errors reach the caller of `embed`."""


class RemoteEmbedder:
    """An embedder that asks a server, with at most `concurrency` requests for all callers."""

    def __init__(self, call: Call, *, model: str, concurrency: int = 4) -> None:
        self.model = model
        self._call = call
        self._slots = asyncio.Semaphore(concurrency)
        self._dimension: int | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Also raises what `call` raises."""
        rows = []
        for start in range(0, len(texts), BATCH):
            async with self._slots:  # released after each batch, for the other callers
                rows.append(await self._embed(texts[start : start + BATCH]))
        return np.concatenate(rows or [np.empty((0, self._dimension or 0), np.float32)])

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        body = {"model": self.model, "input": list(texts), "encoding_format": "base64"}
        answer = await self._call(body)
        try:
            rows = _unit_rows(answer)
        except (LookupError, OverflowError, TypeError, ValueError) as error:
            raise EmbeddingError(f"{self.model} answered no vectors: {error}") from error
        expected = (len(texts), self._dimension or rows.shape[1])
        if rows.shape != expected:
            raise EmbeddingError(f"{self.model} answered vectors {rows.shape}: expected {expected}")
        self._dimension = expected[1]
        return rows


def _unit_rows(answer: Mapping[str, Any]) -> Vectors:
    """Read the vectors of an answer in the order of its texts, and give each the length 1."""
    vectors = {item["index"]: _vector(item["embedding"]) for item in answer["data"]}
    rows = np.stack([vectors[index] for index in range(len(vectors))])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise ValueError("one is zero or not finite")
    return np.asarray(rows / lengths, np.float32)


def _vector(embedding: str | Sequence[float]) -> NDArray[np.float64]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float64)
    return np.asarray(embedding, np.float64)
