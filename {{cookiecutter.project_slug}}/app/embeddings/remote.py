"""Vectors from any server with OpenAI's `/v1/embeddings`.

Texts go out in batches, a few at a time, each under a place of the limiter: between those of a
document there is a turn for a question. Whatever fails first fails the whole, as itself and not
in a group, and cancels the rest; so does a cancel. Vectors are asked for in base64, a third of
the size of decimals and decoded at once, as the `openai` SDK does; a server that answers with
lists of numbers all the same is understood.

Guarantees: rows in the order of the texts, all of one dimension, of length 1. An answer with
too few, too many, zero or infinite vectors is an EmbeddingError. No request has more than
`batch_items` texts, nor, unless it is one text alone, more than about `batch_tokens` tokens.
OpenAI's limits are 2,048 texts and 300,000 tokens a request, and 8,192 tokens a text (its API
reference, "Create embeddings"). A text that is too long is the server's to refuse.

    embedder = RemoteEmbedder(provider.embed, model="text-embedding-3-small")

Needs: `protocol`, NumPy.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np

from .protocol import EmbeddingError, Vectors

SMALLEST = 1e-6
"""Of a vector's length: below it there is no direction left."""

Call = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers an OpenAI embeddings body; its errors reach whoever embeds."""

Limiter = Callable[[], AbstractAsyncContextManager[object]]
"""Returns what holds a place while a request is under way; its errors, too, reach the caller."""


class RemoteEmbedder:
    """An embedder that asks a server; one object serves any number of callers.

    `dimensions` is sent if given: some models shorten their vectors. A caller has `concurrency`
    requests under way or waiting for the `limiter`; without one, all callers together have.
    """

    def __init__(
        self,
        call: Call,
        *,
        model: str,
        limiter: Limiter | None = None,
        concurrency: int = 4,
        dimensions: int | None = None,
        batch_items: int = 64,
        batch_tokens: int = 100_000,
    ) -> None:
        self.model = model
        semaphore = asyncio.Semaphore(concurrency)
        self._call = call
        self._concurrency = concurrency
        self._limiter = limiter or (lambda: semaphore)
        self._asked = {"dimensions": dimensions} if dimensions else {}
        self._dimensions = dimensions
        self._batch_items, self._batch_tokens = batch_items, batch_tokens

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row for each text; see `Embedder.embed`. Also raises what `call` raises."""
        if "" in texts:
            raise EmbeddingError(f"Text {texts.index('')} of {len(texts)} is empty")
        todo = enumerate(batches(texts, self._batch_items, self._batch_tokens))
        done: dict[int, Vectors] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._work(todo, done))
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
        else:
            rows = [done[place] for place in sorted(done)]
            return np.concatenate(rows or [np.empty((0, self._dimensions or 0), np.float32)])
        try:
            raise failure  # out here, where the group is not its context
        finally:
            del failure  # which refers to this frame

    async def _work(
        self, todo: Iterator[tuple[int, Sequence[str]]], done: dict[int, Vectors]
    ) -> None:
        """Take batches for as long as there are any; several of these share them."""
        for place, batch in todo:
            done[place] = await self._batch(batch)

    async def _batch(self, texts: Sequence[str]) -> Vectors:
        body = {"model": self.model, "input": list(texts), "encoding_format": "base64"}
        async with self._limiter():
            answer = await self._call({**body, **self._asked})
        rows = _rows(answer, self.model)
        expected = (len(texts), self._dimensions or rows.shape[1])
        if rows.shape != expected:
            raise EmbeddingError(
                f"{self.model} answered {rows.shape[0]} vectors of {rows.shape[1]} dimensions: "
                f"expected {expected[0]} of {expected[1]}"
            )
        unit = _unit(rows, self.model)
        self._dimensions = expected[1]
        return unit


def batches(texts: Sequence[str], items: int, tokens: int) -> Iterator[Sequence[str]]:
    """Cut texts into batches of up to so many texts and about so many tokens, never empty."""
    start = size = 0
    for end, text in enumerate(texts):
        cost = _tokens(text)
        if end > start and (end - start == items or size + cost > tokens):
            yield texts[start:end]
            start, size = end, 0
        size += cost
    if texts:
        yield texts[start:]


def _tokens(text: str) -> int:
    """Guess the tokens of a text, rather too many: three bytes each, in most languages."""
    return len(text.encode("utf-8", "surrogatepass")) // 3 + 1


def _rows(answer: Mapping[str, Any], model: str) -> Vectors:
    """Read the vectors of an answer in the order of its texts."""
    try:
        data = sorted(answer["data"], key=lambda item: int(item["index"]))
        if [item["index"] for item in data] != list(range(len(data))):
            raise EmbeddingError(f"{model} answered vectors of other texts than were asked for")
        return np.stack([_vector(item["embedding"]) for item in data])
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise EmbeddingError(f"{model} answered no vectors in OpenAI's format: {error}") from error


def _vector(embedding: str | Sequence[float]) -> Vectors:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    with np.errstate(over="ignore"):  # it becomes infinite, and is refused as such
        vector = np.asarray(embedding, np.float32)
    if vector.ndim != 1:
        raise ValueError(f"a vector has {vector.ndim} axes")
    return vector


def _unit(rows: Vectors, model: str) -> Vectors:
    """Give each row the length 1."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > SMALLEST)):
        raise EmbeddingError(f"{model} answered a vector that is zero or not finite")
    unit: Vectors = (rows / lengths).astype(np.float32)
    return unit
