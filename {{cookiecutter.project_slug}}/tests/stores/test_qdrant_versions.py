"""What takes the place of transactions in Qdrant: nothing is found half, and nobody is hindered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from app.stores.protocol import (
    Document,
    EmbeddingMismatchError,
    Passage,
    StoreError,
    StoreUnavailableError,
)
from app.stores.qdrant import NAME, QdrantStore
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
from tests.stores.on_qdrant import NOWHERE
from tests.stores.qdrant_clients import (
    Halted,
    Interrupted,
    Work,
    delete,
    ids,
    on,
    remains,
    replace,
)


@pytest.fixture
async def engine() -> AsyncIterator[AsyncQdrantClient]:
    """Provide an engine that many clients use."""
    engine = AsyncQdrantClient(location=":memory:")
    yield engine
    await engine.close()


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


async def test_draft_of_another_model(engine: AsyncQdrantClient) -> None:
    """What a model has stored counts as long as it is found, whatever another begins to write."""

    async def lose() -> None:
        raise ResponseHandlingException(ConnectionError("lost"))

    async with asyncio.timeout(LONG), AsyncExitStack() as stack:
        other = on(engine, "model-b")

        async def take_over() -> None:
            await stack.enter_async_context(other)
            await store_passages(other, "d", passages("of model-b"))

        todo: list[Callable[[], Awaitable[None]]]
        todo = [lose, take_over]  # once the draft is announced; before, once the store is model-a's
        one = QdrantStore(
            NOWHERE,
            model="model-a",
            client=lambda: Interrupted(engine, todo, "overwrite_payload"),
        )
        await stack.enter_async_context(one)
        await submit(one)
        with pytest.raises(StoreUnavailableError):
            await one.upsert("d", "1", passages("of model-a"))
        assert await found(other) == {"of model-b"}
        assert await other.count() == 1


async def test_records_of_another_layout(engine: AsyncQdrantClient) -> None:
    """A store that a later version of this program has filled is refused with both versions."""
    async with on(engine):
        await engine.set_payload(f"{NAME}-documents", {"layout": 77}, points=await ids(engine))
    refused = on(engine)
    with pytest.raises(StoreError, match=r"layout 77.* 1"):
        await refused.__aenter__()
