"""What only PostgreSQL promises: recovery after a lost server, bounded waits, and its indexes."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import numpy as np
import psycopg
import pytest

from app.stores import pgvector
from app.stores.base import Passage, StoreUnavailableError
from app.stores.pgvector import LOCK, SEARCH, PgvectorStore, query
from tests.stores.on_pgvector import PostgresServer
from tests.stores.test_contract import LONG, found, passages, put

pytestmark = pytest.mark.parametrize("engine", ["pgvector"], indirect=True)

WAITING = "SELECT pid FROM pg_locks WHERE NOT granted"
CLIENTS = "SELECT pid FROM pg_stat_activity WHERE datname ~ '^test'"


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so in the server."""
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 -- the server does not notify
            await asyncio.sleep(0.01)


async def test_server_away(store_address: str, server: PostgresServer) -> None:
    """A store opens without its server; whenever the server is there, every call works at once.

    Calls share ten connections, which are closed at the end.
    """
    async with asyncio.timeout(LONG):
        with server.stopped():
            store = await PgvectorStore(store_address).__aenter__()
            with pytest.raises(StoreUnavailableError, match="No such file"):
                await store.count()
        await put(store, "d", passages("a"))
        for used in (False, True):
            async with AsyncExitStack() as stack:
                for _ in range(10):
                    await stack.enter_async_context(store._connection())
            with server.stopped():
                for match in ("couldn't get a connection", "No such file") * used:
                    with pytest.raises(StoreUnavailableError, match=match):
                        await store.count()
            assert await store.count() == 1
        assert await asyncio.gather(*[store.count() for _ in range(100)]) == [1] * 100
        assert len(server.run(CLIENTS)) <= 10
        await store.__aexit__()
        await until(lambda: not server.run(CLIENTS))


async def test_waits_are_bounded(
    store_address: str, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is cancelled or takes too long is stopped in the server, and undone."""
    async with asyncio.timeout(LONG), PgvectorStore(store_address) as store:
        await put(store, "d", passages("a"))
        with psycopg.connect(store_address) as other:
            other.execute(LOCK, ("d",))
            change = asyncio.create_task(put(store, "d", passages("b")))
            await until(lambda: server.run(WAITING))
            change.cancel()
            await asyncio.wait([change])
            assert change.cancelled()
            await until(lambda: not server.run(WAITING))
            monkeypatch.setattr(pgvector, "WRITE_TIMEOUT", 0.1)
            with pytest.raises(StoreUnavailableError, match="TimeoutError"):
                await put(store, "d", passages("c"))
            await until(lambda: not server.run(WAITING))
        assert await found(store) == ["a"]


@pytest.mark.parametrize(("dimension", "size"), [(8, 2000), (2001, 300), (4001, 300)])
async def test_index(store_address: str, dimension: int, size: int) -> None:
    """The nearest of many are found in an index, in half precision from 2,001 dimensions on.

    The tables are in the schema that the address names.
    """
    rows = np.random.default_rng(1).standard_normal((size, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with psycopg.connect(store_address) as other:
        other.execute("CREATE SCHEMA mine")
    address = f"{store_address}&options=-csearch_path%3Dmine"
    async with asyncio.timeout(LONG), PgvectorStore(address) as store:
        await put(store, "d", [Passage(f"{n}", row) for n, row in enumerate(rows)])
        hits = await store.search("?", rows[77], limit=200)
        assert (hits[0].text, len(hits)) == ("77", 200)
        async with store._connection() as connection:
            parameters = {"question": "", "vector": rows[0], "candidates": 50, "limit": 5}
            explain = psycopg.sql.SQL("EXPLAIN {}").format(query(SEARCH, dimension))
            plan = str(await (await connection.execute(explain, parameters)).fetchall())
            await connection.execute("SELECT FROM mine.passages")
    assert (f"Index Scan using passages_by_vector_{dimension}" in plan) == (dimension < 4001)
