"""Hashed vectors are near where texts are spelled alike, and cost the event loop nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.embeddings.hashing import (
    DIMENSIONS,
    MODEL,
    MOST_COUNTED,
    SLICE,
    HashingEmbedder,
    embed_all,
    embed_one,
    slices,
)
from tests.embeddings.measure_quality import by_hashing, quality
from tests.embeddings.questions import documentation

LONG = 30.0
"""Seconds that are enough on any machine."""

ANYTHING = st.text(st.characters(exclude_categories=()))
"""Halves of surrogate pairs are in it, too."""

GOLDEN = {
    12: 0.1953644,
    25: -0.1953644,
    43: -0.1953644,
    73: 0.3307806,
    168: -0.1953644,
    216: 0.3307806,
    236: 0.1953644,
    248: -0.1953644,
    296: 0.3307806,
    344: -0.1953644,
    380: -0.1953644,
    407: -0.3307806,
    433: 0.3307806,
    441: 0.1953644,
    449: -0.3307806,
}


def nearness(one: str, other: str) -> float:
    """Return the cosine similarity of two texts."""
    return float(embed_one(one) @ embed_one(other))


class OneThread(ThreadPoolExecutor):
    """A thread that does nothing until it is let go, and counts what it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given = 0
        self._free = threading.Event()
        super().submit(self._free.wait, LONG)

    def let_go(self) -> None:
        """Begin."""
        self._free.set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Count, and do it in its turn."""
        self.given += 1
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
async def thread() -> AsyncIterator[OneThread]:
    """Provide the event loop's only thread for work; the loop shuts it down."""
    thread = OneThread()
    asyncio.get_running_loop().set_default_executor(thread)
    yield thread
    thread.let_go()


async def pass_turns() -> None:
    """Let every task go as far as it can without a thread."""
    for _ in range(20):
        await asyncio.sleep(0)


@settings(deadline=None)
@given(ANYTHING)
@example("half of a pair: \ud800")
def test_every_text_has_a_vector_of_length_1(text: str) -> None:
    """Whatever the text, its row is finite, of length 1, and the same each time."""
    row = embed_one(text)
    assert row.shape == (DIMENSIONS,)
    assert row.dtype == np.float32
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(row, embed_one(text))


def test_vectors_stay_as_they_are() -> None:
    """Vectors in a store compare with new ones: who changes them changes MODEL, and this test."""
    row = embed_one("Go on, 限 go")
    assert MODEL == "hashing-512-v1"
    assert {int(place): float(row[place]) for place in np.flatnonzero(row)} == pytest.approx(GOLDEN)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("limiter", "limiters", "throttle"),
        ("retrieval", "retreival", "database"),
        ("The limiter bounds calls", "limiters bound a call", "a cat sleeps in the sun"),
        ("Überwachung", "ÜBERWACHUNGEN", "Warteschlange"),
        ("如何限制并发请求", "限制并发请求的数量", "今天天气很好"),
        ("تحديد عدد الطلبات", "الطلبات المتزامنة", "الطقس جميل اليوم"),
    ],
)
def test_what_is_spelled_alike_is_near(text: str, near: str, far: str) -> None:
    """Inflections, typing errors and shared characters bring texts together, in any script."""
    assert nearness(text, near) > 0.3
    assert nearness(text, far) < 0.25


def test_questions_find_answers() -> None:
    """Four in ten questions have an answer among the first five of 3,000 passages, or more."""
    recall, _ = quality(by_hashing(documentation()))
    assert recall >= 0.4


@pytest.mark.parametrize(
    "same", ["A limit. It's fair!", "a  LIMIT\nit s fair", "\uff41 limit, it\u2019s fair"]
)
def test_how_it_is_set_makes_no_difference(same: str) -> None:
    """Case, white space, punctuation and the width of letters do not count."""
    assert nearness(same, "a limit it s fair") == pytest.approx(1.0)


def test_words_do_not_run_into_each_other() -> None:
    """The order of words makes no difference, but where they begin and end does."""
    assert nearness("fair limit", "limit fair") == pytest.approx(1.0)
    assert nearness("fair limit", "fairlimit") < 0.9


@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "?!\u3002"])
def test_texts_without_a_word_are_alike(text: str) -> None:
    """There is nothing to tell them apart by; they have a vector all the same."""
    assert np.array_equal(embed_one(text), embed_one(""))
    assert nearness(text, "word") < 0.3


def test_of_a_long_text_the_beginning_counts() -> None:
    """However long a text is, its slice is not: a pasted log holds nobody up."""
    text = "a line of a log " * MOST_COUNTED
    assert np.array_equal(embed_one(text), embed_one(text[:MOST_COUNTED]))
    assert not np.array_equal(embed_one(text), embed_one(text[: MOST_COUNTED // 2]))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, SLICE - 1, SLICE, SLICE + 1]), max_size=8))
def test_slices_hold_all_texts_once(lengths: list[int]) -> None:
    """Slices are the texts in order, and only a slice's last text can go past its end."""
    texts = [str(number % 10) * length for number, length in enumerate(lengths)]
    cut = list(slices(texts))
    assert [text for part in cut for text in part] == texts
    assert all(part and sum(map(len, part[:-1])) < SLICE for part in cut)
    assert all(sum(map(len, part)) >= SLICE for part in cut[:-1])


async def test_rows_are_in_the_order_of_the_texts(thread: OneThread) -> None:
    """Row by row it is what each text alone has, over several slices."""
    thread.let_go()
    texts = [f"text {number} " * 300 for number in range(12)]
    rows = await HashingEmbedder().embed(texts)
    assert thread.given > 2
    assert np.array_equal(rows, embed_all(texts))


async def test_no_texts_have_no_rows(thread: OneThread) -> None:
    """The result has the right width, and no thread is needed for it."""
    rows = await HashingEmbedder().embed([])
    assert rows.shape == (0, DIMENSIONS)
    assert rows.dtype == np.float32
    assert thread.given == 0


async def test_the_event_loop_does_not_compute(thread: OneThread) -> None:
    """While the thread is busy nothing is embedded, and the loop goes on."""
    task = asyncio.create_task(HashingEmbedder().embed(["text"]))
    await pass_turns()
    assert not task.done()
    thread.let_go()
    assert len(await task) == 1


async def test_a_question_does_not_wait_for_a_document(thread: OneThread) -> None:
    """Who comes while a document is under way has the next turn, and the document goes on."""
    embedder, order = HashingEmbedder(), list[str]()

    async def embed(name: str, texts: list[str]) -> None:
        await embedder.embed(texts)
        order.append(f"{name} after {thread.given} turns")

    async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
        group.create_task(embed("document", ["x" * SLICE] * 5))
        await pass_turns()
        group.create_task(embed("question", ["why?"]))
        await pass_turns()
        assert thread.given == 1
        thread.let_go()
    assert order == ["question after 2 turns", "document after 6 turns"]


async def test_a_cancel_is_at_once_and_the_rest_is_not_done(thread: OneThread) -> None:
    """It waits for no thread, and the others who wait have their turn."""
    embedder = HashingEmbedder()
    document = asyncio.create_task(embedder.embed(["x" * SLICE] * 5))
    await pass_turns()
    waiting = [asyncio.create_task(embedder.embed([text])) for text in ("one", "two")]
    await pass_turns()
    for task in (waiting[0], document):
        task.cancel()
    async with asyncio.timeout(LONG):
        await asyncio.wait([waiting[0], document])
        assert waiting[0].cancelled()
        assert document.cancelled()
        thread.let_go()
        assert len(await waiting[1]) == 1
    assert thread.given == 2
