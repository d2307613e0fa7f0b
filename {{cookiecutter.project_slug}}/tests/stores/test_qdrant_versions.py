"""What takes the place of transactions in Qdrant: nothing is found half, and nothing remains."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient

from app.stores.protocol import (
    Document,
    EmbeddingMismatchError,
    Passage,
    StoreError,
    StoreUnavailableError,
)
from app.stores.qdrant import NAME, QdrantStore
from app.stores.qdrant_contents import CHUNK
from app.stores.qdrant_passages import BATCH
from tests.stores.contract import (
    LONG,
    MODEL,
    axis,
    everything,
    found,
    passages,
    state,
    store_passages,
    submit,
)
from tests.stores.on_qdrant import NOWHERE, LocalClient
from tests.stores.qdrant_clients import CutOff, Halted, Interrupted, Line

Work = Callable[[QdrantStore], Awaitable[None]]


@pytest.fixture
async def engine() -> AsyncIterator[AsyncQdrantClient]:
    """Provide an engine that many clients use."""
    engine = AsyncQdrantClient(location=":memory:")
    yield engine
    await engine.close()


def on(engine: AsyncQdrantClient, model: str = MODEL) -> QdrantStore:
    """Make a store on an engine."""
    return QdrantStore(NOWHERE, model=model, client=lambda: LocalClient(engine))


async def ids(engine: AsyncQdrantClient, collection: str = f"{NAME}-documents") -> list[Any]:
    """Return the ids of all points of a collection."""
    return [point.id for point in (await engine.scroll(collection, limit=10_000))[0]]


async def remains(engine: AsyncQdrantClient) -> dict[str, int]:
    """Count the points in each kind of collection; the label is no document."""
    points = {"documents": -1, "contents": 0, "passages": 0}
    for collection in (await engine.get_collections()).collections:
        kind = collection.name.removeprefix(f"{NAME}-").split("-")[0]
        points[kind] += len(await ids(engine, collection.name))
    return points


async def test_nothing_remains(engine: AsyncQdrantClient) -> None:
    """Contents are kept until stored, given up, replaced or deleted, passages until replaced."""
    async with on(engine) as store:
        large = b"x" * (2 * CHUNK + 1)
        for name in ("deleted", "failed", "stored", "waiting"):
            await store.submit(Document(name, "1", ""), large)
        assert await remains(engine) == {"documents": 4, "contents": 12, "passages": 0}
        await submit(store, "waiting", "2")
        await store.fail("waiting", "1", "another revision")
        await store.fail("failed", "1", "error")
        await store_passages(store, "stored", passages("a", "b"))
        await store_passages(store, "stored", passages("c"), revision="2")
        await store.delete("deleted")
        assert await remains(engine) == {"documents": 3, "contents": 1, "passages": 1}
        await store.delete("stored")
        assert await remains(engine) == {"documents": 2, "contents": 1, "passages": 0}


async def replace(store: QdrantStore) -> None:
    """Submit a new revision, and store it."""
    await store.submit(Document("d", "2", "d"), b"new")
    await store.begin("d")
    await store.upsert("d", "2", passages("new 1", "new 2", "new 3"))


async def delete(store: QdrantStore) -> None:
    """Delete the document."""
    await store.delete("d")


async def die(engine: AsyncQdrantClient, line: Line, work: Work) -> None:
    """Work until the line is cut."""
    with suppress(StoreUnavailableError):
        async with QdrantStore(NOWHERE, model=MODEL, client=lambda: CutOff(engine, line)) as store:
            await work(store)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("work", [replace, delete])
async def test_lost_half_way(work: Work, *, done: bool) -> None:
    """Wherever a process dies, others find all of the old or all of the new, and can go on.

    After that there is nothing left but what is found, and no more than one lost content.
    """
    outcomes = set()
    for requests in count():
        line = Line(requests, done)
        engine = AsyncQdrantClient(location=":memory:")
        async with on(engine) as store:
            await store_passages(store, "d", passages("old 1", "old 2"))
        await die(engine, line, work)
        async with on(engine) as store:
            texts = frozenset(await found(store))
            outcomes.add(texts)
            assert len(texts) == await store.count()
            if work is delete:
                assert await store.count() == (await remains(engine))["passages"]
            await replace(store)
            assert await found(store) == {"new 1", "new 2", "new 3"}
            left = await remains(engine)
            assert (left["documents"], left["passages"]) == (1, 3)
            assert left["contents"] <= 1
        await engine.close()
        if line.left >= 0:
            break
    new = {"new 1", "new 2", "new 3"} if work is replace else set()
    assert outcomes == {frozenset({"old 1", "old 2"}), frozenset(new)}


@pytest.mark.parametrize(
    ("meanwhile", "expected"), [(replace, {"new 1", "new 2", "new 3"}), (delete, set())]
)
async def test_changed_during_a_search(
    engine: AsyncQdrantClient, meanwhile: Work, expected: set[str]
) -> None:
    """What was replaced or deleted before a search could tell which version counts is not found."""
    todo: list[Callable[[], Awaitable[None]]] = []
    async with asyncio.timeout(LONG), on(engine) as other:
        await store_passages(other, "d", passages("old 1", "old 2"))
        async with QdrantStore(
            NOWHERE, model=MODEL, client=lambda: Interrupted(engine, todo)
        ) as store:
            assert await found(store) == {"old 1", "old 2"}
            todo.append(lambda: meanwhile(other))
            assert await found(store) == expected
            assert not todo


async def test_finished_during_a_search(engine: AsyncQdrantClient) -> None:
    """A search that began when a first version was half written finds all of it, not that half."""
    parts = passages(*[f"text {number}" for number in range(BATCH + 1)])
    begun, gate = asyncio.Event(), asyncio.Event()

    async def finish() -> None:
        gate.set()
        await storing

    async with asyncio.timeout(LONG), on(engine) as other:
        await submit(other)
        async with QdrantStore(
            NOWHERE, model=MODEL, client=lambda: Halted(engine, begun, gate)
        ) as writing:
            storing = asyncio.create_task(writing.upsert("d", "1", parts))
            await begun.wait()
            async with QdrantStore(
                NOWHERE, model=MODEL, client=lambda: Interrupted(engine, [finish])
            ) as store:
                assert len(await everything(store)) == len(parts)


async def test_same_work_twice_at_once(engine: AsyncQdrantClient) -> None:
    """Two workers that store one revision at the same time both succeed, and store it once."""
    async with asyncio.timeout(LONG), on(engine) as one, on(engine) as other:
        for number in range(10):
            await submit(one, revision=str(number))
            parts = [Passage(text, axis(0)) for text in ("a", "b")]
            done = await asyncio.gather(
                *[store.upsert("d", str(number), parts) for store in (one, other, one, other)]
            )
            assert done == [True] * 4
            assert sorted(hit.text for hit in await everything(one)) == ["a", "b"]
            assert await remains(engine) == {"documents": 1, "contents": 0, "passages": 2}
            assert await state(other) == "ready"


async def test_submitted_twice_at_once(engine: AsyncQdrantClient) -> None:
    """Of submissions of a new document at the same moment one remains, with its content alone."""
    async with asyncio.timeout(LONG), on(engine) as one, on(engine) as other:
        for number in range(10):
            await asyncio.gather(*[submit(store, f"d{number}") for store in (one, other) * 3])
            assert await one.begin(f"d{number}") is not None
        assert await remains(engine) == {"documents": 10, "contents": 10, "passages": 0}


async def test_overtaken_while_writing(engine: AsyncQdrantClient) -> None:
    """Whoever is overtaken half-way through writing leaves nothing, whatever it still wrote."""
    parts = passages(*[f"late {number}" for number in range(BATCH + 1)])
    begun, gate = asyncio.Event(), asyncio.Event()
    async with (
        asyncio.timeout(LONG),
        on(engine) as other,
        QdrantStore(NOWHERE, model=MODEL, client=lambda: Halted(engine, begun, gate)) as late,
    ):
        await submit(other)
        storing = asyncio.create_task(late.upsert("d", "1", parts))
        await begun.wait()
        assert await other.upsert("d", "1", passages("a")) is True
        gate.set()
        assert await storing is True
        assert await found(other) == {"a"}
        assert await remains(engine) == {"documents": 1, "contents": 0, "passages": 1}


async def test_stored_again(engine: AsyncQdrantClient) -> None:
    """A document that is ready takes other passages for its revision, as when split anew."""
    async with on(engine) as store:
        await store_passages(store, "d", passages("a", "b"))
        assert await store.upsert("d", "1", passages("c")) is True
        assert await found(store) == {"c"}


async def test_resubmitted_while_it_begins(engine: AsyncQdrantClient) -> None:
    """Work that begins while a new revision takes the old one's place begins with the new one."""
    async with asyncio.timeout(LONG), on(engine) as other:
        await submit(other)
        todo: list[Callable[[], Awaitable[None]]]
        todo = [lambda: other.submit(Document("d", "2", "d"), b"new")]
        async with QdrantStore(
            NOWHERE, model=MODEL, client=lambda: Interrupted(engine, todo, "overwrite_payload")
        ) as store:
            begun = await store.begin("d")
        assert begun is not None
        assert (begun[0].revision, begun[0].attempts, begun[1]) == ("2", 1, b"new")


async def test_two_models_never_meet(engine: AsyncQdrantClient) -> None:
    """Whenever another model takes over an empty store, none finds the passages of the other."""
    async with asyncio.timeout(LONG):
        for turns in range(0, 120, 8):
            await one_takes_over(engine, turns)


async def one_takes_over(engine: AsyncQdrantClient, turns: int) -> None:
    """Store with one model, open with another after some turns, and store with that too."""
    async with on(engine, "model-a") as one:
        await submit(one)
        storing = asyncio.create_task(one.upsert("d", "1", passages("of model-a")))
        for _ in range(turns):
            await asyncio.sleep(0)
        other = on(engine, "model-b")
        with suppress(EmbeddingMismatchError):
            async with other:
                await store_passages(other, "e", passages("of model-b"))
                await asyncio.wait([storing])
                assert await found(other) == {"of model-b"}
        with suppress(EmbeddingMismatchError):
            await storing
        with suppress(EmbeddingMismatchError):
            assert await found(one) <= {"of model-a"}
        for document_id in ("d", "e"):
            await one.delete(document_id)


async def test_records_of_another_layout(engine: AsyncQdrantClient) -> None:
    """A store that a later version of this program has filled is refused with both versions."""
    async with on(engine):
        await engine.set_payload(f"{NAME}-documents", {"layout": 77}, points=await ids(engine))
    refused = on(engine)
    with pytest.raises(StoreError, match=r"layout 77.* 1"):
        await refused.__aenter__()
