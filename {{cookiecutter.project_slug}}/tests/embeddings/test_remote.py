"""A server's vectors come back whole and in order, or not at all."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest

from app.embeddings.base import EmbeddingError
from app.embeddings.remote import BATCH, RemoteEmbedder

WRONG: list[Any] = [[], [0.0], [np.inf], [np.nan], [10**400], [[1.0]], 1.0, None]
WRONG += ["AAA=", "AACAPw==?", "AADAfw=="]  # too short, not base64, NaN


def as_base64(vector: Sequence[float]) -> str:
    """Encode a vector as OpenAI does."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def answer(*vectors: object) -> dict[str, Any]:
    """Answer with vectors, in OpenAI's format but in reverse order."""
    return {"data": [{"index": n, "embedding": one} for n, one in enumerate(vectors)][::-1]}


class FakeServer:
    """Has the vector [2, n] for the text "n"; waits before it answers while it is not `open`."""

    def __init__(self, encode: Any = as_base64) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._encode = encode

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        self.bodies.append(body)
        await self.open.wait()
        return answer(*[self._encode([2.0, float(text)]) for text in body["input"]])


def numbers(batches: float) -> list[str]:
    """Return so many batches of texts that the server knows."""
    return [str(n) for n in range(int(batches * BATCH))]


@pytest.mark.parametrize("encode", [as_base64, list])
async def test_each_text_has_its_own_vector(encode: Any) -> None:
    """Rows are in the order of the texts and of length 1; batches are full, and OpenAI's."""
    server, texts = FakeServer(encode), numbers(2.5)
    embedder = RemoteEmbedder(server, model="m")
    got = await embedder.embed(texts)
    np.testing.assert_allclose(got[:, 1] / got[:, 0], np.arange(80) / 2, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)
    assert server.bodies[2] == {"model": "m", "input": texts[64:], "encoding_format": "base64"}
    assert (await embedder.embed([])).shape == (0, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        *[answer(*[[1.0]] * number) for number in (0, 1, 3)],
        answer([1.0], [1.0, 2.0]),
        *[answer([1.0], other) for other in WRONG],
        *[answer(other, other) for other in WRONG],
        *[{"data": [{"index": n, "embedding": [1.0]} for n in some]} for some in ([0, 0], [1, 2])],
        *[{"data": [{"embedding": [1.0]}] * 2}, {"data": None}, {"error": "overloaded"}, []],
    ],
    ids=lambda wrong: str(wrong)[:60],
)
async def test_a_wrong_answer(wrong: Any) -> None:
    """What is not one vector for each text, each with a direction, is an EmbeddingError."""
    call = AsyncMock(return_value=wrong)
    with pytest.raises(EmbeddingError, match=r"^m answered"):
        await RemoteEmbedder(call, model="m").embed(["one", "two"])


async def test_the_dimension_stays_as_it_is() -> None:
    """Vectors of another dimension than the first good ones are refused, in any later answer."""
    vectors = [[0.0, 0.0], [1.0], [1.0, 1.0], [-2.0]]
    embedder = RemoteEmbedder(AsyncMock(side_effect=map(answer, vectors)), model="m")
    for _ in range(2):
        with pytest.raises(EmbeddingError):
            await embedder.embed(["text"])
        assert abs((await embedder.embed(["text"])).item()) == 1.0


async def test_a_question_does_not_wait_for_a_document() -> None:
    """Callers share the slots batch by batch; an error reaches its caller, who holds none then."""
    server = FakeServer()
    server.open.clear()
    embedder = RemoteEmbedder(server, model="m", concurrency=1)
    document, question, bad, last = (
        asyncio.create_task(embedder.embed(texts))
        for texts in (numbers(5), ["999"], ["no number"], ["777"])
    )
    await asyncio.sleep(0)
    server.open.set()
    assert len(await question) == 1
    document.cancel()
    with pytest.raises(ValueError, match="no number"):
        await bad
    assert len(await last) == 1
    assert [len(body["input"]) for body in server.bodies] == [BATCH, 1, 1, 1]
