"""What dies half-way in Qdrant leaves nothing that is found, and nothing that stays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest
from qdrant_client import AsyncQdrantClient

from app.stores.protocol import Document, StoreUnavailableError
from app.stores.qdrant import QdrantStore
from app.stores.qdrant_contents import CHUNK
from app.stores.qdrant_passages import BATCH, ROUNDS
from tests.stores.contract import LONG, MODEL, axis, found, passages, store_passages, submit
from tests.stores.on_qdrant import NOWHERE
from tests.stores.qdrant_clients import (
    CutOff,
    Halted,
    Interrupted,
    Line,
    Work,
    delete,
    give_up,
    ids,
    on,
    remains,
    replace,
)

PARTS = passages(*[f"text {number}" for number in range(BATCH + 1)])
"""More than one request writes."""


@pytest.fixture
async def engine() -> AsyncIterator[AsyncQdrantClient]:
    """Provide an engine that many clients use."""
    engine = AsyncQdrantClient(location=":memory:")
    yield engine
    await engine.close()


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


@asynccontextmanager
async def halted_upsert(
    engine: AsyncQdrantClient,
) -> AsyncIterator[tuple[asyncio.Task[bool], asyncio.Event]]:
    """Give a document's first upsert, halted half-way through writing, and what lets it go on."""
    begun, gate = asyncio.Event(), asyncio.Event()
    halted = QdrantStore(NOWHERE, model=MODEL, client=lambda: Halted(engine, begun, gate))
    async with halted as store:
        await submit(store)
        storing = asyncio.create_task(store.upsert("d", "1", PARTS))
        await begun.wait()
        yield storing, gate


async def test_overtaken_while_writing(engine: AsyncQdrantClient) -> None:
    """Whoever is overtaken half-way through writing leaves nothing, whatever it still wrote."""
    async with asyncio.timeout(LONG), on(engine) as other, halted_upsert(engine) as (storing, gate):
        assert await other.upsert("d", "1", passages("a")) is True
        gate.set()
        assert await storing is True
        assert await found(other) == {"a"}
        assert await remains(engine) == {"documents": 1, "contents": 0, "passages": 1}


async def store_first(store: QdrantStore) -> None:
    """Store what was submitted."""
    await store.upsert("d", "1", PARTS)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("end", [give_up, delete])
async def test_never_stored(end: Work, *, done: bool) -> None:
    """Wherever a document's first upsert dies, giving it up or deleting it removes the rest."""
    for requests in count():
        line = Line(requests, done)
        engine = AsyncQdrantClient(location=":memory:")
        async with on(engine) as store:
            await submit(store)
        await die(engine, line, store_first)
        async with on(engine) as store:
            await end(store)
            kept = int(end is give_up)
            left = {"documents": kept, "contents": 0, "passages": await store.count()}
            assert await remains(engine) == left
        await engine.close()
        if line.left >= 0:
            break
        assert left["passages"] in {0, kept * len(PARTS)}


@pytest.mark.parametrize("end", [give_up, delete])
async def test_search_among_the_never_stored(engine: AsyncQdrantClient, end: Work) -> None:
    """However many upserts broke off, once given up or deleted they cost a search nothing."""
    async with asyncio.timeout(LONG), on(engine) as other:
        await store_passages(other, "far", passages("far", at=axis(1)))
        for _ in range(ROUNDS + 1):
            await submit(other)
            await break_off(engine)
            await end(other)
        rest: list[Callable[[], Awaitable[None]]] = [nothing] * ROUNDS
        async with QdrantStore(
            NOWHERE, model=MODEL, client=lambda: Interrupted(engine, rest)
        ) as store:
            hits = await store.search("anything", axis(0), limit=1)
        assert [hit.text for hit in hits] == ["far"]
        assert ROUNDS - len(rest) == 2  # as for any hit that this client has not seen before


async def break_off(engine: AsyncQdrantClient, model: str = MODEL) -> None:
    """Cancel an upsert after its first write of passages."""
    begun = asyncio.Event()
    async with QdrantStore(
        NOWHERE, model=model, client=lambda: Halted(engine, begun, asyncio.Event())
    ) as store:
        storing = asyncio.create_task(store_first(store))
        await begun.wait()
        storing.cancel()
        await asyncio.wait([storing])


async def nothing() -> None:
    """Let a request go on."""


@pytest.mark.parametrize("end", [give_up, delete])
async def test_never_stored_by_two_models(engine: AsyncQdrantClient, end: Work) -> None:
    """Among the passages of the store's model nothing is left, whatever another had begun."""
    async with asyncio.timeout(LONG):
        async with on(engine, "model-a") as store:
            await submit(store)
        await break_off(engine, "model-a")
        before = await collections(engine)
        await break_off(engine, "model-b")
        async with on(engine, "model-b") as store:
            await end(store)
        (passages_of_b,) = await collections(engine) - before
        assert await ids(engine, passages_of_b) == []


async def collections(engine: AsyncQdrantClient) -> set[str]:
    """Return the names of all collections."""
    return {collection.name for collection in (await engine.get_collections()).collections}


@pytest.mark.parametrize(("end", "stored"), [(give_up, True), (delete, False)])
async def test_ended_while_writing(engine: AsyncQdrantClient, end: Work, *, stored: bool) -> None:
    """What is given up while it is written is stored whole after all; what is deleted is not."""
    async with asyncio.timeout(LONG), on(engine) as other, halted_upsert(engine) as (storing, gate):
        await end(other)
        assert (await remains(engine))["passages"] == 0
        gate.set()
        assert await storing is stored
        left = {"documents": int(stored), "contents": 0, "passages": stored * len(PARTS)}
        assert await remains(engine) == left
        assert len(await found(other)) == await other.count() == left["passages"]
