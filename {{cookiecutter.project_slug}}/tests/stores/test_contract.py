"""What every store promises, on every engine."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.stores.base import Hit, Passage, PassageStore, Source, StoreUnavailableError, Vector
from app.stores.ranking import question_words
from tests.stores.databases import OpenStore

LONG = 60.0  # seconds


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[PassageStore]:
    """Provide a store that is open and empty."""
    async with open_store() as store:
        yield store


def vector(*weights: float, dimension: int = 8) -> Vector:
    """Return a vector of length 1 with these first components, before scaling."""
    row = np.zeros(dimension, np.float32)
    row[: len(weights)] = weights
    return row / np.float32(np.linalg.norm(row))


NEAR, FAR = vector(1), vector(0, 1)


def passages(*texts: str, at: Vector = NEAR) -> list[Passage]:
    """Return passages with these texts that all have the same vector."""
    return [Passage(text, at) for text in texts]


async def put(store: PassageStore, document_id: str, parts: list[Passage]) -> None:
    """Store a document as these passages."""
    await store.replace(Source(document_id, document_id), parts)


async def found(store: PassageStore, question: str = "?", limit: int = 100) -> list[str]:
    """Return the texts of the passages that are found, best first."""
    return [hit.text for hit in await store.search(question, NEAR, limit=limit)]


async def test_nearest_first(store: PassageStore) -> None:
    """Where words do not count the order is that of the vectors, of no more than `limit`.

    A vector of another dimension finds nothing or is refused; the store goes on.
    """
    assert [await found(store), await store.count(), await store.count("d")] == [[], 0, 0]
    parts = [Passage(f"text {n}", vector(1, n)) for n in (3, 0, 4, 1, 2)]
    await put(store, "d", parts)
    for limit in (1, 3, 5, 1000):
        assert await found(store, limit=limit) == [f"text {n}" for n in range(5)][:limit]
    other = vector(1, dimension=3)
    for _ in range(2):
        with suppress(StoreUnavailableError):
            assert {hit.text for hit in await store.search("?", other, limit=5)} <= {"three"}
        with suppress(StoreUnavailableError):
            await put(store, "e", passages("three", at=other))
        assert await found(store, limit=1) == ["text 0"]


async def test_replace_and_delete(store: PassageStore) -> None:
    """A document has the passages of its last `replace` and no others, until it is deleted."""
    await put(store, "other", passages("zebra", at=vector(1, 1)))
    for texts in (["a", "zebra"], ["b", "c", "d"], ["e"], ["e"], [], [f"n{n}" for n in range(500)]):
        await put(store, "d", passages(*texts))
        assert sorted(await found(store, "zebra", 1000)) == sorted([*texts, "zebra"])
        assert [await store.count("d"), await store.count()] == [len(texts), len(texts) + 1]
    for _ in range(2):
        await store.delete("d")
        assert await found(store, "f") == ["zebra"]
        assert [await store.count("d"), await store.count()] == [0, 1]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The error code is QX-7731.", "What does QX-7731 mean?"),
        ("我们的退款政策是三十天。", "退款多久"),
        ("환불은 삼십일 이내에 가능합니다.", "환불을 원해요"),
        ("Ein Café in Zürich", "ZURICH"),
        ("It's at https://example.com/snake_case?d='e'", "SNAKE 'e' OR"),
        ("She indexed the documents", "indexing a document"),
    ],
)
async def test_words_count_too(store: PassageStore, engine: Any, text: str, question: str) -> None:
    """Rare words find a passage among many that are nearer by their vectors, in any language."""
    if "index" in question and not engine.STEMS:
        pytest.skip("this store knows no stems")
    await put(store, "near", [Passage(f"αβγ number {n}", vector(1, 0.01 * n)) for n in range(70)])
    await put(store, "far", passages(text, at=FAR))
    texts = await found(store, question, limit=5)
    assert text in texts
    assert len(texts) == 5


async def test_rare_words_first(store: PassageStore, engine: Any) -> None:
    """Rare words count for more than common ones, those of most passages for nothing."""
    if not engine.STEMS:
        pytest.skip("in this store the words of most passages count too")
    near = {"none": 0.1, "alpha beta": 0.2, "rare": 0.3, "alpha": 0.4, "last": 0.5}
    parts = [Passage(f"{text} usual", vector(1, at)) for text, at in sorted(near.items())]
    await put(store, "d", parts + passages(*["usual"] * 10, at=FAR))
    texts = await found(store, "alpha, beta, usual or rare?", limit=4)
    assert texts == ["alpha beta usual", "rare usual", "alpha usual", "none usual"]


QUESTIONS = [
    "", " \t\n", '""', "'; DROP TABLE passages; --", "\\", "^a* -b", "a AND NOT", "_ ² ½ ª",
    "NEAR(a b, 3)", "{text title}: a", "a:* <-> ! & |", "%_% %s {} $1", "\0\ud800", "😀",
    "word " * 5000, "w" * 50_000, " ".join(f"w{n}" for n in range(5000)),
]  # fmt: skip


async def test_any_question_is_harmless(store: PassageStore) -> None:
    """A question is words, never a query's syntax; one without words is asked by its vector."""
    await put(store, "d", passages("a b text word"))
    for question in QUESTIONS:
        assert await found(store, question) == ["a b text word"], question[:20]
        terms = question_words(question)
        assert (len("".join(terms)) <= 10_000, len(terms) <= 32) == (True, True)


async def test_text_comes_back_as_it_was(store: PassageStore) -> None:
    """Text is kept to the character, but for NUL and lone surrogates: they become U+FFFD."""
    texts = [
        *QUESTIONS,
        "日本語、नमस्ते, e\u0301 is not \u00e9 👩‍👧 \U0010ffff",
        "\r\n\x01\x7f\u2028",
    ]
    texts += ["x" * 200_000, " ".join(f"w{n}x" for n in range(200_000))]
    for text in texts:
        kept = text.replace("\0\ud800", "\ufffd\ufffd")
        await store.replace(Source("d", text, text), passages(text))
        assert await store.search("?", NEAR, limit=2) == [Hit("d", kept, kept, kept)]
    await store.replace(Source("d", "\ud83d\ude00", None), passages("text"))
    assert await store.search("?", NEAR, limit=2) == [Hit("d", "text", "\U0001f600", None)]


async def test_many_at_once(open_store: OpenStore) -> None:
    """Processes that first use a new database at the same time neither fail nor lose anything."""

    async def fill(name: str) -> None:
        async with open_store() as store:
            for number in range(5):
                await put(store, f"{name}{number}", passages(f"{name}{number}"))
                await found(store)

    async with asyncio.timeout(LONG), open_store() as store:
        await asyncio.gather(*map(fill, "abcdef"))
        assert sorted(await found(store)) == [f"{name}{n}" for name in "abcdef" for n in range(5)]


def version(number: int) -> list[Passage]:
    """Return the passages of one version of a document, 2 to 5 of them."""
    size = 2 + number % 4
    return passages(*[f"version {number}, passage {part} of {size}" for part in range(size)])


async def version_seen(store: PassageStore) -> int:
    """Return the one version that a search sees, whole."""
    texts = await found(store)
    number = int(re.findall(r"\d+", texts[0])[0])
    assert sorted(texts) == [passage.text for passage in version(number)]
    return number


async def test_replaced_all_at_once(open_store: OpenStore, engine: Any) -> None:
    """A search sees a document's old passages or its new ones, in order, in any process.

    Of two that replace it at the same time, one wins whole.
    """
    if not engine.ATOMIC:
        pytest.skip("in this store a search during `replace` may see a mixture")
    async with asyncio.timeout(LONG), open_store() as one, open_store() as other:

        async def watch(store: PassageStore) -> None:
            seen = [await version_seen(store)]
            while seen[-1] < 24:
                seen.append(await version_seen(store))
            assert seen == sorted(seen)

        await put(one, "d", version(0))
        async with asyncio.TaskGroup() as tasks:
            for store in (one, one, other):
                tasks.create_task(watch(store))
            for number in range(25):
                await asyncio.gather(*[put(store, "d", version(number)) for store in (one, other)])


CALLS: dict[str, Callable[[PassageStore], Awaitable[object]]] = {
    "replace": lambda store: put(store, "d", version(2)),
    "delete": lambda store: store.delete("d"),
    "search": found,
    "count": lambda store: store.count(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_cancelled_anywhere(open_store: OpenStore, engine: Any, call: str) -> None:
    """A cancelled call is done or not done, whole where changes are; nothing of it comes later.

    What one process stores, another finds with its next search.
    """
    async with asyncio.timeout(LONG), open_store() as store, open_store() as other:
        for pause in (*[0.0] * 12, *[0.001] * 12):
            await put(other, "d", version(1))
            assert await version_seen(store) == 1
            task = asyncio.ensure_future(CALLS[call](store))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None
            if engine.ATOMIC and await found(other):
                assert await version_seen(other) in {1, 2}


async def test_addresses(engine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad address is refused in one line; a database that is away is named with the reason.

    The password is shown nowhere.
    """
    others = ("", "sesame", "http://sesame@host:99999", "sqlite:///a.db?mode=ro", "sqlite://a.db")
    for address in (engine.BAD_ADDRESS, "postgresql+psycopg://user:sesame@host/db", *others):
        with pytest.raises(ValueError, match=r"^[^\n]*: use [^\n]*$") as error:
            engine.store(None, address)
        assert "sesame" not in f"{error.value}{error.value.__cause__}"
    for call in CALLS.values():
        store = engine.store(None, engine.nowhere(tmp_path))
        with pytest.raises(StoreUnavailableError, match=r"^\w+, [^\n]+: [^\n]+$") as away:
            async with store:
                await call(store)
        assert away.value.retry_after
        assert "sesame" not in f"{away.value}{store!r}{caplog.text}"
