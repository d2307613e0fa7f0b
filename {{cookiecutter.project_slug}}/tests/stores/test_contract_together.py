"""Many users of one store at once: tasks, processes, cancelled calls, a closing."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from app.stores.protocol import Document, DocumentStore, Hit, Passage, StoreUnavailableError
from tests.stores.contract import (
    LONG,
    OpenStore,
    axis,
    everything,
    found,
    passages,
    state,
    store_passages,
    submit,
)

VERSIONS = 25


def version(number: int) -> list[Passage]:
    """Return the passages of one version of a document, 2 to 5 of them."""
    count = 2 + number % 4
    return passages(*[f"version {number}, passage {part} of {count}" for part in range(count)])


def version_seen(hits: list[Hit]) -> int:
    """Return the one version that a search saw, whole."""
    texts = [hit.text for hit in hits]
    number = int(re.findall(r"\d+", texts[0])[0])
    assert sorted(texts) == [passage.text for passage in version(number)]
    return number


async def test_replaced_all_at_once(open_store: OpenStore) -> None:
    """A search sees a document's old passages or its new ones: no mix, not fewer, not back again.

    This holds in the process that replaces them and in any other.
    """
    done = asyncio.Event()

    async def replace(store: DocumentStore) -> None:
        for number in range(1, VERSIONS):
            await store_passages(store, "d", version(number), revision=str(number))
        done.set()

    async def watch(store: DocumentStore) -> None:
        seen = []
        while not done.is_set():
            seen.append(version_seen(await everything(store)))
        assert seen == sorted(seen)
        assert version_seen(await everything(store)) == VERSIONS - 1

    async with asyncio.timeout(2 * LONG), open_store() as one, open_store() as other:
        await store_passages(one, "d", version(0), revision="0")
        async with asyncio.TaskGroup() as tasks:
            for store in (one, one, other):
                tasks.create_task(watch(store))
            tasks.create_task(replace(one))


async def test_deleted_all_at_once(open_store: OpenStore) -> None:
    """A search sees all of a document's passages, or none once it is deleted."""
    done = asyncio.Event()

    async def delete(store: DocumentStore) -> None:
        for _ in range(10):
            await store_passages(store, "d", version(3))
            await store.delete("d")
        done.set()

    async def watch(store: DocumentStore) -> None:
        while not done.is_set():
            assert len(await everything(store)) in {0, len(version(3))}

    async with (
        asyncio.timeout(2 * LONG),
        open_store() as one,
        open_store() as other,
        asyncio.TaskGroup() as tasks,
    ):
        for store in (one, other):
            tasks.create_task(watch(store))
        tasks.create_task(delete(one))


async def test_seen_by_other_processes(open_store: OpenStore) -> None:
    """What one process has done, another sees with its next call, and may go on with."""
    async with asyncio.timeout(LONG), open_store() as one, open_store() as other:
        assert await found(other) == set()
        await submit(one)
        assert await other.unfinished() == ["d"]
        assert await other.begin("d") is not None
        assert await state(one) == "processing"
        assert await other.upsert("d", "1", passages("a")) is True
        assert await found(one) == {"a"}
        assert await one.count() == 1
        await store_passages(one, "e", passages("b"))
        assert await found(other) == {"a", "b"}
        await store_passages(one, "d", passages("c"), revision="2")
        assert await found(other) == {"b", "c"}
        await one.delete("d")
        assert await found(other) == {"b"}
        assert await other.document("d") is None


async def test_kept_when_closed(open_store: OpenStore) -> None:
    """What was stored and what is waiting outlive the store that was closed."""
    document = Document("w", "1", "Waiting", metadata={"a": 1})
    async with open_store() as store:
        await store_passages(store, "d", passages("a"))
        await store.submit(document, b"content")
    async with open_store() as store:
        assert await found(store) == {"a"}
        assert await store.document("w") == document
        begun = await store.begin("w")
        assert begun is not None
        assert begun[1] == b"content"


async def test_many_at_once(open_store: OpenStore) -> None:
    """Writers in two processes neither fail nor lose each other's work."""
    async with asyncio.timeout(2 * LONG), open_store() as one, open_store() as other:
        stores = [one, other] * 15
        async with asyncio.TaskGroup() as tasks:
            for number, store in enumerate(stores):
                parts = passages(f"text {number}")
                tasks.create_task(store_passages(store, f"d{number}", parts))
        assert await found(one) == await found(other) == {f"text {n}" for n in range(30)}


async def test_one_of_two_revisions_wins(open_store: OpenStore) -> None:
    """However a new revision and work on the old one meet, the new one is what remains."""
    async with asyncio.timeout(2 * LONG), open_store() as one, open_store() as other:
        for number in range(10):
            await submit(one, revision=f"old {number}")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(other.upsert("d", f"old {number}", version(1)))
                tasks.create_task(store_passages(one, "d", version(2), f"new {number}"))
            assert version_seen(await everything(other)) == 2
            assert await state(other) == "ready"


Call = Callable[[DocumentStore], Coroutine[Any, Any, Any]]
CALLS: dict[str, Call] = {
    "submit": lambda store: store.submit(Document("d", "2", "d"), b"new"),
    "begin": lambda store: store.begin("w"),
    "upsert": lambda store: store.upsert("d", "1", version(2)),
    "fail": lambda store: store.fail("w", "1", "error"),
    "delete": lambda store: store.delete("d"),
    "search": lambda store: store.search("version", axis(0), limit=9),
    "document": lambda store: store.document("d"),
    "unfinished": lambda store: store.unfinished(),
    "count": lambda store: store.count(),
}


async def cancel_after(turns: int, work: Coroutine[Any, Any, Any]) -> None:
    """Cancel a call after some turns of the event loop, if it has not returned by then."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


@pytest.mark.parametrize("call", CALLS)
async def test_cancelled_call(open_store: OpenStore, call: str) -> None:
    """A call that is cancelled anywhere is done or not done, and the store goes on."""
    async with asyncio.timeout(2 * LONG), open_store() as store, open_store() as other:
        await store_passages(store, "d", version(1))
        await submit(store, "w")
        for turns in range(12):
            await cancel_after(turns, CALLS[call](store))
            hits = await everything(store)
            assert not hits or version_seen(hits) in {1, 2}
        # A call that was cancelled may still have been on its way; nothing is after this one.
        await store_passages(store, "d", version(3), revision="3")
        assert version_seen(await everything(store)) == 3
        assert version_seen(await everything(other)) == 3
        await store_passages(other, "w", [], revision="4")
        assert await store.unfinished() == []


@pytest.mark.parametrize("call", CALLS)
async def test_closed_with_a_call_in_flight(open_store: OpenStore, call: str) -> None:
    """A call that meets the closing is done or raises StoreUnavailableError; none hangs."""
    async with asyncio.timeout(2 * LONG), open_store() as other:
        await store_passages(other, "d", version(1))
        await submit(other, "w")
        for turns in (0, 1, 3):
            async with open_store() as store:
                tasks = [asyncio.ensure_future(CALLS[call](store)) for _ in range(8)]
                for _ in range(turns):
                    await asyncio.sleep(0)
            for ending in await asyncio.gather(*tasks, return_exceptions=True):
                assert not isinstance(ending, BaseException) or isinstance(
                    ending, StoreUnavailableError
                )
            hits = await everything(other)
            assert not hits or version_seen(hits) in {1, 2}


async def test_closed_store(open_store: OpenStore) -> None:
    """A store that is closed says so."""
    async with open_store() as store:
        await submit(store)
    for call in CALLS.values():
        with pytest.raises(StoreUnavailableError):
            await call(store)
