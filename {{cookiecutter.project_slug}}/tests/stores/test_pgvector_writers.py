"""Who writes to PostgreSQL while others do, and while they have what is to be written locked."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from app.stores.pgvector_connections import MAX_CONNECTIONS, MAX_WRITERS, Connection, Connections
from app.stores.protocol import Document, StoreUnavailableError
from tests.stores.contract import LONG, OpenStore, found, passages, state, store_passages, submit
from tests.stores.on_pgvector import MIGRATED, PostgresServer
from tests.stores.test_pgvector import until

pytestmark = pytest.mark.parametrize("engine", ["pgvector"], indirect=True)


@contextmanager
def locked(server: PostgresServer) -> Iterator[None]:
    """Lock the documents there are, as who stores their passages does."""
    with psycopg.connect(server.address(MIGRATED)) as other:
        other.execute("SELECT FROM documents FOR UPDATE")
        yield


def waiting(server: PostgresServer) -> int:
    """Count the transactions that wait for another."""
    return len(server.run("SELECT pid FROM pg_locks WHERE NOT granted"))


async def test_reads_go_on(open_store: OpenStore, server: PostgresServer) -> None:
    """However many writes wait for one document, searches have connections."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await store_passages(store, "d", passages("a"))
        with locked(server):
            calls = [store.upsert("d", "1", passages("b")) for _ in range(2 * MAX_CONNECTIONS)]
            writes = asyncio.gather(*calls)
            await until(lambda: waiting(server) >= MAX_WRITERS)
            assert await found(store) == {"a"}
            assert not writes.done()
        assert await writes == [True] * len(calls)
        assert await found(store) == {"b"}


async def test_a_locked_document(open_store: OpenStore, server: PostgresServer) -> None:
    """Who stores passages waits for a document that is locked; others are told to come again."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await submit(store)
        with locked(server):
            storing = asyncio.ensure_future(store.upsert("d", "1", passages("a")))
            await until(lambda: waiting(server))
            changes = (
                store.submit(Document("d", "2", "title"), b""),
                store.begin("d"),
                store.fail("d", "1", "error"),
                store.delete("d"),
            )
            for ending in await asyncio.gather(*changes, return_exceptions=True):
                assert isinstance(ending, StoreUnavailableError)
                assert "lock timeout" in str(ending)
                assert ending.retry_after is not None
            assert not storing.done()
        assert await storing
        assert await state(store) == "ready"


async def test_a_turn_to_write(open_store: OpenStore, server: PostgresServer) -> None:
    """One write too many is told so, passages wait; who is cancelled leaves the turn to others."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await submit(store)
        with locked(server):
            for _ in range(2):
                calls = [store.upsert("d", "1", []) for _ in range(MAX_WRITERS + 3)]
                writes = [asyncio.ensure_future(call) for call in calls]
                await until(lambda: waiting(server) == MAX_WRITERS)
                with pytest.raises(StoreUnavailableError, match="6 others are writing") as error:
                    await submit(store, "another")
                assert error.value.retry_after is not None
                assert not any(write.done() for write in writes)
                for write in writes:
                    write.cancel()
                await asyncio.wait(writes)
                await until(lambda: not waiting(server))
            await submit(store, "another")


async def test_a_write_that_took_all_its_time(server: PostgresServer) -> None:
    """It is to be tried again no sooner than after as long."""

    async def nothing(_: Connection) -> None:
        pass

    async def sleep(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(600)")

    connections = Connections(server.address(MIGRATED), nothing, write_timeout=2.5)
    await connections.open()
    try:
        with pytest.raises(StoreUnavailableError) as error:
            await connections.write(sleep)
    finally:
        await connections.close()
    assert error.value.retry_after == 2.5
