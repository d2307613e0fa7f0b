"""A server's vectors come back whole and in order, or not at all."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest

from app.embeddings.base import EmbeddingError
from app.embeddings.remote import BATCH_ITEMS, RemoteEmbedder, batches

WRONG: list[Any] = [[], [0.0], [1e-9], [np.inf], [np.nan], [1e39], [10**400], [[1.0]], 1.0, None]
WRONG += ["AAA=", "AACAPw==?", "AADAfw=="]  # too short, not base64, NaN


def as_base64(vector: Sequence[float]) -> str:
    """Encode a vector as OpenAI does."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def answer(*vectors: object) -> dict[str, Any]:
    """Answer with vectors, in OpenAI's format but in reverse order."""
    return {"data": [{"index": n, "embedding": one} for n, one in enumerate(vectors)][::-1]}


class FakeServer:
    """Has the vector [2, n] for the text "n"; if not `free`, answers once told, by the text."""

    def __init__(self, *, encode: Any = as_base64, free: bool = True) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answers: dict[str, asyncio.Future[None]] = {}
        self._encode, self._free = encode, free

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        self.bodies.append(body)
        for _ in range(9 - len(self.bodies)):  # so that the first comes last
            await asyncio.sleep(0)
        if not self._free:
            await self.answers.setdefault(body["input"][0], asyncio.Future())
        return answer(*[self._encode([2.0, float(text)]) for text in body["input"]])


def numbers(batches: float) -> list[str]:
    """Return so many batches of texts that the server knows."""
    return [str(n) for n in range(int(batches * BATCH_ITEMS))]


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("encode", [as_base64, list])
async def test_each_text_has_its_own_vector(encode: Any) -> None:
    """Rows are in the order of the texts and of length 1; batches are full, and OpenAI's."""
    server, texts = FakeServer(encode=encode), numbers(2.5)
    embedder = RemoteEmbedder(server, model="m")
    got = await embedder.embed(texts)
    np.testing.assert_allclose(got[:, 1] / got[:, 0], np.arange(160) / 2, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)
    assert server.bodies[2] == {"model": "m", "input": texts[128:], "encoding_format": "base64"}
    assert (await embedder.embed([])).shape == (0, 2)
    with pytest.raises(EmbeddingError, match="Text 1 of 3 is empty"):
        await embedder.embed(["0", "", "2"])
    assert len(server.bodies) == 3


def test_batches_hold_all_texts_once() -> None:
    """In order, and full within both limits, unless one text alone is over them."""
    texts = ["a", "b", "c", "de" * 3, "限" * 9, "f"]
    assert list(batches(texts, 2, 3)) == [["a", "b"], ["c"], ["de" * 3], ["限" * 9], ["f"]]
    assert list(batches(texts, 9, 5)) == [["a", "b", "c"], ["de" * 3], ["限" * 9], ["f"]]


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


async def test_the_first_failure_is_raised_as_it_is() -> None:
    """Not in a group; the other requests are cancelled, no more are sent."""
    server = FakeServer(free=False)
    task = asyncio.create_task(RemoteEmbedder(server, model="m", concurrency=3).embed(numbers(8)))
    await settle()
    server.answers["64"].set_exception(OSError("the server is gone"))
    with pytest.raises(OSError, match="the server is gone"):
        await task
    assert [future.cancelled() for future in server.answers.values()] == [True, False, True]


async def test_a_question_does_not_wait_for_a_document() -> None:
    """All callers share the slots, in turns; a cancelled call gives its slots back."""
    server = FakeServer(free=False)
    embedder = RemoteEmbedder(server, model="m", concurrency=1)
    document, question, last = (
        asyncio.create_task(embedder.embed(texts)) for texts in (numbers(5), ["999"], ["777"])
    )
    await settle()
    for text in ("0", "999"):
        assert list(server.answers)[-1] == text
        server.answers[text].set_result(None)
        await settle()
    assert len(await question) == 1
    document.cancel()
    server.answers["777"].set_result(None)
    assert len(await last) == 1
