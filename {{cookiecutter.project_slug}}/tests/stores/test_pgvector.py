"""What is PostgreSQL's own: a server that goes away and comes back, its connections, its set-up."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.stores.pgvector import PgvectorStore
from app.stores.pgvector_connections import MAX_CONNECTIONS
from app.stores.pgvector_migrating import FOLDER, HEAD
from app.stores.protocol import EmbeddingMismatchError, StoreError, StoreUnavailableError
from tests.stores.contract import (
    LONG,
    MODEL,
    OpenStore,
    everything,
    found,
    passages,
    state,
    store_passages,
    submit,
)
from tests.stores.on_pgvector import MIGRATED, PostgresServer, new_database

pytestmark = pytest.mark.parametrize("engine", ["pgvector"], indirect=True)

NOWHERE = "postgresql://user:sesame@127.0.0.1:1/database"


@pytest.fixture
def stopped(server: PostgresServer) -> Iterator[PostgresServer]:
    """Provide the server, not running; afterwards it runs in any case."""
    server.stop()
    yield server
    if not server.runs():
        server.start()


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """Provide a database without tables, by its name."""
    with new_database(server) as name:
        yield name


def connections(server: PostgresServer, database: str = MIGRATED) -> dict[int, str]:
    """Return the state of each connection to a database by its process."""
    query = "SELECT pid, state FROM pg_stat_activity WHERE datname = %s"
    return dict(server.run(query, database))


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 -- the server does not tell
            await asyncio.sleep(0.01)


def waiting(server: PostgresServer) -> bool:
    """Whether a transaction waits for another."""
    return bool(server.run("SELECT pid FROM pg_locks WHERE NOT granted"))


async def unavailable(store: PgvectorStore) -> str:
    """Return what a call says that finds the database away."""
    with pytest.raises(StoreUnavailableError) as error:
        await store.document("d")
    assert error.value.retry_after is not None
    return str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "sesame",
        "sqlite:///sesame.db",
        "mysql://user:sesame@host/db",
        "postgresql:user:sesame@host/db",
        "postgresql+psycopg://user:sesame@host/db",
        "host=h password=sesame",
        "postgresql://user:sesame@host/db?nonsense=sesame",
        "postgresql://user:ses%ame@host/db",
        "postgresql://user:sesame@[::1/db",
    ],
)
def test_no_address(engine: Any, address: str) -> None:
    """What is no address is refused in one line that says how it must be, without a password."""
    with pytest.raises(ValueError, match="postgresql://user:password") as error:
        PgvectorStore(address, model=MODEL)
    assert "\n" not in str(error.value)
    assert "sesame" not in f"{error.value}{error.value.__cause__}"
    assert error.value.__cause__ is None or error.value.__suppress_context__


async def test_password_is_hidden(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No error, log line or repr shows the password."""
    caplog.set_level(logging.DEBUG)
    store = PgvectorStore(NOWHERE, model=MODEL)
    async with store:
        said = await unavailable(store)
    assert "127.0.0.1/database" in said
    assert "sesame" not in f"{said}{store!r}{vars(store)}{caplog.text}"


async def test_start_without_database(
    stopped: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A store opens while its database is away, with one line; it works once that is there."""
    async with (
        asyncio.timeout(2 * LONG),
        PgvectorStore(stopped.address(MIGRATED), model=MODEL) as store,
    ):
        ours = [record for record in caplog.records if record.name.startswith("app")]
        assert [record.levelname for record in ours] == ["WARNING"]
        assert "each call tries again" in ours[0].getMessage()
        for _ in range(3):
            await unavailable(store)
        stopped.start()
        await submit(store)
        assert await state(store) == "queued"


async def test_found_away_then_mismatched(open_store: OpenStore, server: PostgresServer) -> None:
    """That another model filled the store shows with the first call that reaches it."""
    async with open_store("model-a") as store:
        await store_passages(store, "d", passages("a"))
    server.stop()
    try:
        refused = await open_store("model-b").__aenter__()
    finally:
        server.start()
    try:
        with pytest.raises(EmbeddingMismatchError):
            await refused.count()
    finally:
        await refused.__aexit__(None, None, None)


async def test_restarted_server(open_store: OpenStore, server: PostgresServer) -> None:
    """After the server was restarted every call works at once, as if nothing had been."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await store_passages(store, "d", passages("a"))
        for _ in range(2):
            await asyncio.gather(*[store.count() for _ in range(30)])
            server.stop()
            server.start()
            counts = await asyncio.gather(*[store.count() for _ in range(30)])
            assert counts == [1] * 30


async def test_server_away(open_store: OpenStore, server: PostgresServer) -> None:
    """While the server is down calls say so, all of them; once it is back they work."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await store_passages(store, "d", passages("a"))
        server.stop()
        try:
            calls = [store.count() for _ in range(30)]
            for ending in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(ending, StoreUnavailableError)
        finally:
            server.start()
        assert await found(store) == {"a"}


async def test_stalled_server(open_store: OpenStore, server: PostgresServer) -> None:
    """A server that answers nothing is given up, by many calls as fast as by one."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await store_passages(store, "d", passages("a"))
        with server.stalled(MIGRATED):
            calls = [store.count() for _ in range(20)]
            for ending in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(ending, StoreUnavailableError)
        assert await found(store) == {"a"}


async def test_cancelled_while_stalled(open_store: OpenStore, server: PostgresServer) -> None:
    """A call that is cancelled while the server answers nothing ends, and the store goes on."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await store_passages(store, "d", passages("a"))
        with server.stalled(MIGRATED):
            call = asyncio.ensure_future(everything(store))
            await asyncio.wait([call], timeout=0.1)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
        assert await found(store) == {"a"}


async def test_cancelled_call_is_stopped(open_store: OpenStore, server: PostgresServer) -> None:
    """A call that is cancelled in the server gives its connection back, with no transaction."""
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await store_passages(store, "d", passages("a"))
        before = connections(server)
        with psycopg.connect(server.address(MIGRATED)) as other:
            other.execute("SELECT FROM documents FOR UPDATE")
            call = asyncio.ensure_future(store.upsert("d", "1", passages("b")))
            await until(lambda: waiting(server))
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            await until(lambda: not waiting(server))
        await until(lambda: connections(server) == before)
        assert set(before.values()) == {"idle"}
        assert await found(store) == {"a"}


async def test_connections_are_bounded(open_store: OpenStore, server: PostgresServer) -> None:
    """However many calls there are, they share a few connections; closing takes all away."""
    gc.collect()  # psycopg leaves it to this to close what was given up while it connected
    async with asyncio.timeout(2 * LONG), open_store() as store:
        await asyncio.gather(*[store.count() for _ in range(100)])
        assert len(connections(server)) <= MAX_CONNECTIONS
    await until(lambda: not connections(server))


async def test_lost_tables(server: PostgresServer, database: str) -> None:
    """A database that was replaced by an empty one is set up again, after one error."""
    async with asyncio.timeout(LONG), PgvectorStore(server.address(database), model=MODEL) as store:
        await submit(store)
        server.run("DROP SCHEMA public CASCADE", database=database)
        server.run("CREATE SCHEMA public", database=database)
        with pytest.raises(StoreError, match="documents"):
            await state(store)
        assert await state(store) is None
        await store_passages(store, "d", passages("a"))
        assert await found(store) == {"a"}


async def test_opened_at_once(server: PostgresServer, database: str) -> None:
    """Stores that open an empty database at the same moment set it up once."""
    async with asyncio.timeout(2 * LONG):
        stores = [PgvectorStore(server.address(database), model=MODEL) for _ in range(6)]
        await asyncio.gather(*[store.__aenter__() for store in stores])
        assert await asyncio.gather(*[store.count() for store in stores]) == [0] * 6
        await asyncio.gather(*[store.__aexit__(None, None, None) for store in stores])


async def test_opened_while_another_model_stores(
    open_store: OpenStore, server: PostgresServer
) -> None:
    """A store that is just being filled by another model is not taken for an empty one."""
    async with asyncio.timeout(2 * LONG), open_store("model-a") as store:
        await submit(store)
        refused = open_store("model-b")
        with psycopg.connect(server.address(MIGRATED)) as other:
            other.execute("SELECT FROM label FOR SHARE")
            other.execute("INSERT INTO passages VALUES (1, 'd', 0, '', NULL, '', '', '[1]')")
            opening = asyncio.ensure_future(refused.__aenter__())
            await until(lambda: waiting(server))
        with pytest.raises(EmbeddingMismatchError, match="model-a"):
            await opening


async def test_relabelled_while_it_stores(open_store: OpenStore, server: PostgresServer) -> None:
    """What is stored while another model takes the empty store is refused."""
    async with asyncio.timeout(2 * LONG), open_store("model-a") as store:
        await store_passages(store, "d", passages("a"))
        await store.delete("d")
        await submit(store)
        with psycopg.connect(server.address(MIGRATED)) as other:
            other.execute("UPDATE label SET model = 'model-b'")
            storing = asyncio.ensure_future(store.upsert("d", "1", passages("a")))
            await until(lambda: waiting(server))
        with pytest.raises(EmbeddingMismatchError, match="model-b"):
            await storing
        assert await store.count() == 0


FILLS = """
import asyncio, os, sys
from app.stores.pgvector import PgvectorStore
from tests.stores.contract import MODEL, found, passages, store_passages

async def main():
    async with PgvectorStore(sys.argv[1], model=MODEL) as store:
        for n in range(5):
            await store_passages(store, f"{os.getpid()} {n}", passages("a"))
            await found(store)

asyncio.run(main())
"""


async def test_processes_together(server: PostgresServer, database: str) -> None:
    """Processes that open an empty database at the same time set it up once, and all can work."""

    async def fill() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            FILLS,
            server.address(database),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return await process.wait()

    async with asyncio.timeout(2 * LONG):
        assert await asyncio.gather(*[fill() for _ in range(2)]) == [0] * 2
        async with PgvectorStore(server.address(database), model=MODEL) as store:
            assert await store.count() == 10


async def test_tables_of_another_version(server: PostgresServer, database: str) -> None:
    """A database whose tables are of a version that is not known is refused with it."""
    server.run("CREATE TABLE passages_version (version_num text)", database=database)
    server.run("INSERT INTO passages_version VALUES ('v77')", database=database)
    refused = PgvectorStore(server.address(database), model=MODEL)
    with pytest.raises(StoreError, match="v77"):
        await refused.__aenter__()


async def test_no_right_to_the_extension(server: PostgresServer, database: str) -> None:
    """Who may not make the extension is told so at the start."""
    server.run("CREATE ROLE plain LOGIN")
    server.run("GRANT CREATE ON SCHEMA public TO plain", database=database)
    address = server.address(database).replace("postgres:@", "plain:@")
    refused = PgvectorStore(address, model=MODEL)
    with pytest.raises(StoreError, match="permission denied to create extension"):
        await refused.__aenter__()


async def test_another_schema(server: PostgresServer, database: str) -> None:
    """The tables go where the address's search path says."""
    server.run("CREATE SCHEMA mine", database=database)
    address = f"{server.address(database)}&options=-csearch_path%3Dmine,public"
    async with PgvectorStore(address, model=MODEL) as store:
        await store_passages(store, "d", passages("a"))
        assert await found(store) == {"a"}
    assert server.run("SELECT count(*) FROM mine.passages", database=database) == [(1,)]


def test_head(engine: Any) -> None:
    """The program works with the newest revision of the tables there is."""
    scripts = ScriptDirectory.from_config(Config(FOLDER / "alembic.ini"))
    assert scripts.get_heads() == [HEAD]


async def test_content_is_dropped(open_store: OpenStore, server: PostgresServer) -> None:
    """What a document was made of is kept until it is stored, given up or deleted, not longer."""
    async with open_store() as store:
        for name in ("deleted", "failed", "stored", "waiting"):
            await submit(store, name)
        await store.delete("deleted")
        await store.fail("failed", "1", "error")
        await store.upsert("stored", "1", [])
        await store.fail("waiting", "another", "error")
        kept = "SELECT id FROM documents WHERE content IS NOT NULL"
        assert server.run(kept, database=MIGRATED) == [("waiting",)]
