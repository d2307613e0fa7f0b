"""A server's vectors come back whole and in order, or not at all."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.concurrency.limiter import ConcurrencyLimiter, QueueFull
from app.embeddings.protocol import EmbeddingError, Vectors
from app.embeddings.remote import RemoteEmbedder, batches
from app.llm.echo import EchoProvider

LONG = 30.0
"""Seconds that are enough on any machine."""

Encoding = Callable[[Sequence[float]], Any]


def as_base64(vector: Sequence[float]) -> str:
    """Encode a vector as OpenAI does if asked."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def direction(text: str) -> list[float]:
    """Return the vector, not of length 1, that the fake server has for a number."""
    return [2.0, float(text), 0.0]


def rows(texts: Sequence[str]) -> Vectors:
    """Return the vectors that are expected for numbers."""
    vectors = np.array([direction(text) for text in texts], np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def answer(*vectors: object) -> dict[str, Any]:
    """Answer with vectors, in OpenAI's format."""
    data = [
        {"object": "embedding", "index": place, "embedding": vector}
        for place, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}}


class FakeServer:
    """Knows the vectors of numbers; keeps what it was asked, and how many were at it at most.

    If it is `stopped`, it answers a request when told so, by the first of its texts.
    """

    def __init__(self, *, encode: Encoding = as_base64, stopped: bool = False) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.busy = self.busiest = self.cancelled = 0
        self._encode, self._stopped = encode, stopped
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._arrived = asyncio.Condition()

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        self.bodies.append(body)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await self._wait(body["input"][0])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.busy -= 1
        return answer(*(self._encode(direction(text)) for text in body["input"]))

    async def _wait(self, text: str) -> None:
        if not self._stopped:
            await asyncio.sleep(0)
            return
        self._waiting[text] = asyncio.get_running_loop().create_future()
        async with self._arrived:
            self._arrived.notify_all()
        await self._waiting[text]

    async def arrived(self, *texts: str) -> None:
        """Wait for the requests that begin with these texts."""
        async with asyncio.timeout(LONG), self._arrived:
            await self._arrived.wait_for(lambda: set(texts) <= self._waiting.keys())

    def let_go(self, text: str) -> None:
        """Answer the request that begins with this text."""
        self._waiting[text].set_result(None)

    def fail(self, text: str, error: Exception) -> None:
        """Fail the request that begins with this text."""
        self._waiting[text].set_exception(error)


def numbers(count: int) -> list[str]:
    """Return texts that the server knows."""
    return [str(number) for number in range(count)]


def embedder(call: Any, **options: Any) -> RemoteEmbedder:
    """Make an embedder of a model `m`."""
    return RemoteEmbedder(call, model="m", **options)


@pytest.mark.parametrize("encode", [as_base64, list])
async def test_each_text_has_its_own_vector(encode: Encoding) -> None:
    """Rows are in the order of the texts and of length 1, in base64 as in decimals."""
    texts = numbers(10)
    got = await embedder(FakeServer(encode=encode), batch_items=3).embed(texts)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, rows(texts), rtol=1e-6)


async def test_answers_may_come_in_any_order() -> None:
    """Neither the order of the answers nor that within an answer matters."""
    server = FakeServer(stopped=True)

    async def backwards(body: dict[str, Any]) -> dict[str, Any]:
        got = await server(body)
        return {**got, "data": got["data"][::-1]}

    task = asyncio.create_task(embedder(backwards, batch_items=2).embed(numbers(6)))
    await server.arrived("0", "2", "4")
    for text in ("4", "0", "2"):
        server.let_go(text)
        await asyncio.sleep(0)
    np.testing.assert_allclose(await task, rows(numbers(6)), rtol=1e-6)


async def test_what_is_sent() -> None:
    """A body is OpenAI's, asks for base64, and has `dimensions` only where they were given."""
    server = FakeServer()
    await embedder(server).embed(["1"])
    await embedder(server, dimensions=3).embed(["1"])
    body = {"model": "m", "input": ["1"], "encoding_format": "base64"}
    assert server.bodies == [body, {**body, "dimensions": 3}]


async def test_batches_are_full() -> None:
    """Texts go out in as few requests as the limits allow."""
    server = FakeServer()
    await embedder(server, batch_items=4).embed(numbers(9))
    assert [len(body["input"]) for body in server.bodies] == [4, 4, 1]
    server.bodies.clear()
    await embedder(server, batch_tokens=4).embed(numbers(9))  # 2 bytes or less: a token
    assert [len(body["input"]) for body in server.bodies] == [4, 4, 1]


@settings(deadline=None)
@given(
    st.lists(st.text("a限", min_size=1, max_size=12)),
    st.integers(min_value=1, max_value=4),
    st.integers(min_value=1, max_value=12),
)
def test_batches_hold_all_texts_once(texts: list[str], items: int, tokens: int) -> None:
    """In order, within both limits unless it is one text alone, and full."""

    def fits(batch: Sequence[str]) -> bool:
        cost = sum(len(text.encode()) // 3 + 1 for text in batch)
        return len(batch) <= items and cost <= tokens

    cut = list(batches(texts, items, tokens))
    assert [text for batch in cut for text in batch] == texts
    assert all(len(batch) == 1 or (batch and fits(batch)) for batch in cut)
    assert not any(fits([*one, other[0]]) for one, other in pairwise(cut))


async def test_no_texts_need_no_server() -> None:
    """Of no texts, no rows; their width is what is known of it."""
    server = FakeServer()
    assert (await embedder(server).embed([])).shape == (0, 0)
    assert (await embedder(server, dimensions=3).embed([])).shape == (0, 3)
    assert server.bodies == []


async def test_an_empty_text_is_refused() -> None:
    """Servers refuse a whole batch for it: the error says which of the texts it is."""
    server = FakeServer()
    with pytest.raises(EmbeddingError, match="Text 1 of 3 is empty"):
        await embedder(server).embed(["0", "", "2"])
    assert server.bodies == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (answer(), "no vectors"),
        (answer([1.0]), "1 vectors of 1 dimensions: expected 2 of 1"),
        (answer([1.0], [1.0], [1.0]), "3 vectors of 1 dimensions: expected 2 of 1"),
        (answer([1.0], [1.0, 2.0]), "no vectors"),
        (answer([1.0], [0.0]), "zero or not finite"),
        (answer([1.0], [1e-9]), "zero or not finite"),
        (answer([], []), "zero or not finite"),
        (answer([1.0], [float("inf")]), "zero or not finite"),
        (answer([1.0], [float("nan")]), "zero or not finite"),
        (answer([1.0], [1e39]), "zero or not finite"),
        (answer([1.0], as_base64([float("nan")])), "zero or not finite"),
        (answer([1.0], [10**400]), "no vectors"),
        (answer([1.0], as_base64([1.0]) + "?"), "no vectors"),
        (answer([1.0], "AAA="), "no vectors"),
        (answer(1.0, 2.0), "no vectors"),
        (answer([[1.0]], [[1.0]]), "no vectors"),
        (answer(None, None), "no vectors"),
        (answer({}, {}), "no vectors"),
        ({"data": [{"index": 0, "embedding": [1.0]}] * 2}, "other texts"),
        ({"data": [{"index": place, "embedding": [1.0]} for place in (1, 2)]}, "other texts"),
        ({"data": [{"embedding": [1.0]}] * 2}, "no vectors"),
        ({"data": None}, "no vectors"),
        ({"error": {"message": "overloaded"}}, "no vectors"),
        ([], "no vectors"),
    ],
)
async def test_an_answer_that_is_none(wrong: Any, message: str) -> None:
    """What is not one vector for each text, each with a direction, is an EmbeddingError."""

    async def call(_: dict[str, Any]) -> Any:
        return wrong

    with pytest.raises(EmbeddingError, match=message):
        await embedder(call).embed(["one", "two"])


async def test_the_dimension_stays_as_it_is() -> None:
    """Vectors of another dimension than the first good ones are refused, in any later answer."""
    answers = iter([answer([0.0, 0.0]), answer([1.0]), answer([1.0, 1.0]), answer([-2.0])])

    async def call(_: dict[str, Any]) -> Any:
        return next(answers)

    remote = embedder(call)
    with pytest.raises(EmbeddingError, match="zero"):
        await remote.embed(["text"])
    assert (await remote.embed(["text"])).tolist() == [[1.0]]
    with pytest.raises(EmbeddingError, match="1 vectors of 2 dimensions: expected 1 of 1"):
        await remote.embed(["text"])
    assert (await remote.embed(["text"])).tolist() == [[-1.0]]


async def test_a_server_that_does_not_shorten_is_refused() -> None:
    """Where `dimensions` were asked for, vectors of others are an error at once."""
    with pytest.raises(EmbeddingError, match="of 3 dimensions: expected 1 of 2"):
        await embedder(FakeServer(), dimensions=2).embed(["1"])


async def test_the_first_failure_is_raised_as_it_is() -> None:
    """Not in a group, with its own cause; the other requests are cancelled, no more are sent."""
    server = FakeServer(stopped=True)
    limiter = ConcurrencyLimiter(3, max_queue=9, queue_timeout=LONG)
    remote = embedder(server, limiter=limiter.slot, batch_items=1)
    task = asyncio.create_task(remote.embed(numbers(8)))
    await server.arrived("0", "1", "2")
    failure = OSError("the server is gone")
    failure.__cause__ = ConnectionResetError()
    server.fail("1", failure)
    with pytest.raises(OSError, match="the server is gone") as raised:
        await task
    assert raised.value is failure
    assert isinstance(failure.__cause__, ConnectionResetError)
    assert failure.__context__ is None
    assert (server.cancelled, server.busy, len(server.bodies)) == (2, 0, 3)
    assert (limiter.in_flight, limiter.snapshot().queued) == (0, 0)


async def test_a_cancel_cancels_all() -> None:
    """Requests end, and places and the queue are left, before the cancel is over."""
    server = FakeServer(stopped=True)
    limiter = ConcurrencyLimiter(2, max_queue=9, queue_timeout=LONG)
    remote = embedder(server, limiter=limiter.slot, batch_items=1)
    task = asyncio.create_task(remote.embed(numbers(8)))
    await server.arrived("0", "1")
    assert (limiter.in_flight, limiter.snapshot().queued) == (2, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (server.cancelled, server.busy, len(server.bodies)) == (2, 0, 2)
    assert (limiter.in_flight, limiter.snapshot().queued) == (0, 0)


async def test_no_more_requests_at_once_than_agreed() -> None:
    """Without a limiter `concurrency` is for all callers together."""
    server = FakeServer()
    remote = embedder(server, concurrency=3, batch_items=1)
    await asyncio.gather(*(remote.embed(numbers(9)) for _ in range(2)))
    assert (server.busiest, len(server.bodies)) == (3, 18)


async def test_a_question_does_not_wait_for_a_document() -> None:
    """Who comes while a document is under way has the next place that comes free."""
    server = FakeServer(stopped=True)
    remote = embedder(server, concurrency=1, batch_items=1)
    document = asyncio.create_task(remote.embed(numbers(5)))
    await server.arrived("0")
    question = asyncio.create_task(remote.embed(["9"]))
    for _ in range(20):
        await asyncio.sleep(0)
    server.let_go("0")
    await server.arrived("9")
    server.let_go("9")
    assert len(await question) == 1
    await server.arrived("1")
    assert [body["input"] for body in server.bodies] == [["0"], ["9"], ["1"]]
    document.cancel()
    await asyncio.wait([document])


async def test_a_full_limiter_says_so_itself() -> None:
    """What the limiter raises reaches the caller as it is, like the errors of the call."""
    server = FakeServer(stopped=True)
    limiter = ConcurrencyLimiter(1, max_queue=0, queue_timeout=LONG)
    with pytest.raises(QueueFull):
        await embedder(server, limiter=limiter.slot, batch_items=1).embed(numbers(3))
    assert (server.busy, limiter.in_flight) == (0, 0)


async def test_a_provider_of_the_service_can_be_asked() -> None:
    """Its `embed` is all it takes, whether or not it knows base64."""
    near, same, far = await embedder(EchoProvider().embed).embed(["a cat", "A cat!", "a dog"])
    assert near @ same == pytest.approx(1.0)
    assert near @ far < 0.9
