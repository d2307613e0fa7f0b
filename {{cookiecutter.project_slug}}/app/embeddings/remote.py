"""Vectors from any server with OpenAI's `/v1/embeddings`.

Texts are sent in batches, below OpenAI's limits of 2,048 texts and 300,000 tokens. Vectors are
requested in base64, a third of the size of decimals; lists of numbers are understood too. The
first failure is raised as it is, and cancels the other requests. An answer with too few, too many,
zero or infinite vectors, or some of another dimension than before, is an EmbeddingError.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .base import EmbeddingError, Vectors

BATCH_ITEMS, BATCH_TOKENS = 64, 100_000
SMALLEST = 1e-6
"""A vector's length below which it has no direction left."""

Call = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers an OpenAI embeddings body; its errors reach the caller of `embed`."""


class RemoteEmbedder:
    """An embedder that asks a server, with at most `concurrency` requests for all callers."""

    def __init__(self, call: Call, *, model: str, concurrency: int = 4) -> None:
        self.model = model
        self._call = call
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._dimension: int | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Also raises what `call` raises."""
        if "" in texts:
            raise EmbeddingError(f"Text {texts.index('')} of {len(texts)} is empty")
        todo = enumerate(batches(texts, BATCH_ITEMS, BATCH_TOKENS))
        done: dict[int, Vectors] = {}

        async def work() -> None:
            for place, batch in todo:
                async with self._slots:
                    done[place] = await self._embed(batch)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
            raise failure from failure.__cause__
        rows = [done[place] for place in sorted(done)]
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


def batches(texts: Sequence[str], items: int, tokens: int) -> Iterator[Sequence[str]]:
    """Cut texts into batches of up to so many texts and about so many tokens, never empty."""
    start = size = 0
    for end, text in enumerate(texts):
        cost = len(text.encode("utf-8", "surrogatepass")) // 3 + 1  # rather too many
        if end > start and (end - start == items or size + cost > tokens):
            yield texts[start:end]
            start, size = end, 0
        size += cost
    if texts:
        yield texts[start:]


def _unit_rows(answer: Mapping[str, Any]) -> Vectors:
    """Read the vectors of an answer in the order of its texts, and give each the length 1."""
    data = sorted(answer["data"], key=lambda item: int(item["index"]))
    if [item["index"] for item in data] != list(range(len(data))):
        raise ValueError("its indexes are not those of the texts")
    rows = np.stack([_vector(item["embedding"]) for item in data])
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > SMALLEST)):
        raise ValueError("one is zero or not finite")
    unit: Vectors = (rows / lengths).astype(np.float32)
    return unit


def _vector(embedding: str | Sequence[float]) -> Vectors:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    with np.errstate(over="ignore"):  # it becomes infinite, and is refused as such
        return np.asarray(embedding, np.float32)
