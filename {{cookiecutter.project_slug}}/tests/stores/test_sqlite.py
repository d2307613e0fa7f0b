"""What is SQLite's own: its file, its locks, its threads, other processes."""

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.stores.protocol import Passage, StoreError, StoreUnavailableError
from app.stores.sqlite import SqliteStore
from app.stores.sqlite_connections import Connections, database_file
from app.stores.sqlite_schema import set_up
from tests.stores.contract import (
    LONG,
    MODEL,
    axis,
    found,
    passages,
    state,
    store_passages,
    submit,
    vector,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Provide the path of a file that is not there, nor is its folder."""
    return tmp_path / "new" / "folder" / "documents.db"


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Provide a connection as another process has it."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("sqlite:///data/a.db", Path("data/a.db")),
        ("sqlite:////var/lib/a b.db", Path("/var/lib/a b.db")),
        (Path("a.db"), Path("a.db")),
    ],
)
def test_address(address: str | Path, file: Path) -> None:
    """Three slashes are followed by a relative path, four by the rest of an absolute one."""
    assert database_file(address) == file


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a.db",
        "/var/a.db",
        "sqlite://a.db",
        "sqlite:a.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a.db#x",
        "sqlite:///a\0b",
        "postgresql://host/db",
        "SQLITE:///a.db",
    ],
)
def test_no_address(address: str) -> None:
    """Whatever names no file is refused, in one line that shows it and how it must be."""
    with pytest.raises(ValueError, match="sqlite:///relative") as error:
        SqliteStore(address, model=MODEL)
    assert repr(address) in str(error.value)
    assert "\n" not in str(error.value)


async def test_file(path: Path) -> None:
    """The file is made with its folder, and a closed store leaves that one file only."""
    async with SqliteStore(path, model=MODEL) as store:
        await store_passages(store, "d", passages("a"))
        assert await found(store) == {"a"}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("我们的退款政策是三十天。", "退款多久"),
        ("返品は三十日以内にお願いします。", "返品したい"),
        ("환불은 삼십일 이내에 가능합니다.", "환불을 원해요"),
        ("猫", "猫"),
        ("Ein Café in Zürich", "ZURICH CAFE"),
        ("She indexed the documents", "indexing a document"),
        ("Модель QX_7731", "qx_7731"),
    ],
)
async def test_words_of_many_languages(path: Path, text: str, question: str) -> None:
    """Words are found whatever their case, accents or English endings, and without spaces too."""
    async with SqliteStore(path, model=MODEL) as store:
        await store_passages(store, "near", passages(*"αβγδεζ" * 10))
        await store_passages(store, "far", passages(text, at=axis(1)))
        hits = await store.search(question, axis(0), limit=2)
        assert text in [hit.text for hit in hits]


async def test_words_of_most_passages_count_for_nothing(path: Path) -> None:
    """A passage is not preferred for words that more than half of the passages have."""
    near = [f"It is the number {n} of these" for n in range(7)]
    far = [f"the the the of of of {n}" for n in range(3)]
    async with SqliteStore(path, model=MODEL) as store:
        await store_passages(store, "far", passages(*far, at=axis(1)))
        await store_passages(store, "near", passages(*near))
        hits = await store.search("The colour of the sea", axis(0), limit=7)
        assert {hit.text for hit in hits} == set(near)


async def test_best_by_words_first(path: Path) -> None:
    """Of passages with words of the question the one with most of them comes first."""
    near = {"none": 0.1, "alpha beta": 0.2, "alpha": 0.3, "beta": 0.4, "other": 0.5, "last": 0.6}
    parts = [Passage(text, vector(1, near[text])) for text in sorted(near)]
    async with SqliteStore(path, model=MODEL) as store:
        await store_passages(store, "d", [part for part in parts if part.text != "alpha beta"])
        await store_passages(store, "e", [part for part in parts if part.text == "alpha beta"])
        hits = await store.search("alpha or beta?", axis(0), limit=3)
        assert hits[0].text == "alpha beta"


async def test_content_is_dropped(path: Path, other: sqlite3.Connection) -> None:
    """What a document was made of is kept until it is stored, given up or deleted, not longer."""
    contents = "SELECT document_id FROM contents ORDER BY document_id"
    async with SqliteStore(path, model=MODEL) as store:
        for name in ("deleted", "failed", "stored", "waiting"):
            await submit(store, name)
        assert len(other.execute(contents).fetchall()) == 4
        await store.delete("deleted")
        await store.fail("failed", "1", "error")
        await store.upsert("stored", "1", [])
        await store.fail("waiting", "another", "error")
        assert other.execute(contents).fetchall() == [("waiting",)]


def test_no_fts5() -> None:
    """A SQLite without FTS5 is refused in a line that names it."""

    class Without(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
            return super().execute(sql.replace("USING fts5", "USING absent_fts5"), parameters)

    with (
        closing(sqlite3.connect(":memory:", factory=Without)) as connection,
        pytest.raises(StoreError, match="FTS5"),
    ):
        set_up(connection, MODEL)


async def test_tables_of_another_version(path: Path, other: sqlite3.Connection) -> None:
    """A file whose tables are of another version is refused with both versions."""
    other.execute("PRAGMA user_version = 77")
    refused = SqliteStore(path, model=MODEL)
    with pytest.raises(StoreError, match=r"version 77.* 1"):
        await refused.__aenter__()


async def test_no_database(path: Path) -> None:
    """A file that is something else is refused with its name, and left as it is."""
    content = b"Something else, and longer than the header of a database." * 20
    await asyncio.to_thread(path.parent.mkdir, parents=True)
    await asyncio.to_thread(path.write_bytes, content)
    refused = SqliteStore(path, model=MODEL)
    with pytest.raises(StoreUnavailableError, match=r"documents\.db.*not a database"):
        await refused.__aenter__()
    assert await asyncio.to_thread(path.read_bytes) == content


async def test_no_folder(path: Path) -> None:
    """A folder that cannot be made is an unavailable store."""
    path.parent.parent.mkdir(exist_ok=True)
    path.parent.touch()
    refused = SqliteStore(path, model=MODEL)
    with pytest.raises(StoreUnavailableError):
        await refused.__aenter__()


async def test_locked_by_another_process(path: Path, other: sqlite3.Connection) -> None:
    """While another process changes the file searches go on, and changes wait their deadline."""
    async with SqliteStore(path, model=MODEL, busy_timeout=0.01) as store:
        await store_passages(store, "d", passages("a"))
        other.execute("BEGIN IMMEDIATE")
        assert await found(store) == {"a"}
        with pytest.raises(StoreUnavailableError, match="locked") as error:
            await submit(store, "e")
        assert error.value.retry_after is not None
        other.execute("ROLLBACK")
        await submit(store, "e")
        assert await store.unfinished() == ["e"]


async def test_read_by_another_process(path: Path, other: sqlite3.Connection) -> None:
    """While another process reads, changes go on, and it goes on seeing what it saw."""
    count = "SELECT count(*) FROM passages"
    async with SqliteStore(path, model=MODEL, busy_timeout=0.01) as store:
        other.execute("BEGIN")
        assert other.execute(count).fetchone() == (0,)
        await store_passages(store, "d", passages("a"))
        assert await found(store) == {"a"}
        assert other.execute(count).fetchone() == (0,)
        other.execute("COMMIT")
        assert other.execute(count).fetchone() == (1,)


async def test_opened_while_locked(path: Path, other: sqlite3.Connection) -> None:
    """A new file that another process is just setting up is waited for."""
    other.execute("BEGIN IMMEDIATE")
    store = SqliteStore(path, model=MODEL, busy_timeout=LONG)
    opening = asyncio.create_task(store.__aenter__())
    await asyncio.wait([opening], timeout=0.1)
    other.execute("ROLLBACK")
    await opening
    await store.__aexit__(None, None, None)


async def run(program: str, path: Path) -> asyncio.subprocess.Process:
    """Start a Python program with the path as its argument."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        path,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


DIES_BEFORE_COMMIT = """
import sqlite3, sys, time
from app.stores import sqlite_documents
from tests.stores.contract import MODEL, passages

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
new = passages(*map(str, range(5000)))
assert sqlite_documents.upsert(connection, MODEL, "d", "2", new, "")
print("stored", flush=True)
time.sleep(60)
"""


async def test_killed_while_storing(path: Path) -> None:
    """A process that is killed before it has committed leaves the old passages, and no lock."""
    async with asyncio.timeout(LONG), SqliteStore(path, model=MODEL) as store:
        await store_passages(store, "d", passages("old"))
        await submit(store, revision="2")
        process = await run(DIES_BEFORE_COMMIT, path)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"stored\n"
        assert await found(store) == {"old"}
        process.kill()
        await process.wait()
        assert await found(store) == {"old"}
        assert await state(store) == "queued"
        assert await store.upsert("d", "2", passages("new")) is True
        assert await found(store) == {"new"}


FILLS = """
import asyncio, os, sys
from pathlib import Path
from typing import Any
from app.stores.sqlite import SqliteStore
from tests.stores.contract import MODEL, found, passages, store_passages

async def main():
    async with SqliteStore(Path(sys.argv[1]), model=MODEL) as store:
        for n in range(5):
            await store_passages(store, f"{os.getpid()} {n}", passages("a"))
            await found(store)

asyncio.run(main())
"""


async def test_processes_together(path: Path) -> None:
    """Processes that open a new file at the same time set it up once, and all can work."""
    async with asyncio.timeout(2 * LONG):
        processes = await asyncio.gather(*[run(FILLS, path) for _ in range(4)])
        assert [await process.wait() for process in processes] == [0] * 4
        async with SqliteStore(path, model=MODEL) as store:
            assert await store.count() == 20


async def test_opened_at_once(path: Path) -> None:
    """Stores that open a new file at the same moment all succeed."""
    async with asyncio.timeout(2 * LONG):
        for number in range(10):
            new = path.with_name(f"{number}.db")
            stores = [SqliteStore(new, model=MODEL) for _ in range(8)]
            await asyncio.gather(*[store.__aenter__() for store in stores])
            await asyncio.gather(*[store.__aexit__(None, None, None) for store in stores])


async def test_cancelled_before_its_turn(path: Path) -> None:
    """A change that is cancelled while it waits for another is never made; nor does it wait on."""
    connections = Connections(path, busy_timeout=1)
    begun, gate = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def first(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        gate.wait(LONG)
        made.append("first")

    try:
        async with asyncio.timeout(LONG):
            running = asyncio.create_task(connections.write(first))
            await begun.wait()
            waiting = asyncio.create_task(connections.write(lambda _: made.append("second")))
            for task in (waiting, running):
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert made == []
    finally:
        gate.set()
        await connections.close()
    assert made == ["first"]


async def test_not_on_the_event_loops_thread(path: Path) -> None:
    """Reading and changing happen on threads of the store's own."""
    connections = Connections(path, busy_timeout=1)
    try:
        here = threading.get_ident()
        assert await connections.read(lambda _: threading.get_ident()) != here
        assert await connections.write(lambda _: threading.get_ident()) != here
    finally:
        await connections.close()


async def test_busy_timeout(path: Path) -> None:
    """Each connection waits for locks as long as was said."""
    connections = Connections(path, busy_timeout=12.5)
    try:
        for run in (connections.read, connections.write):
            assert await run(lambda c: c.execute("PRAGMA busy_timeout").fetchone()) == (12_500,)
    finally:
        await connections.close()


async def test_threads_end(path: Path) -> None:
    """A store that is closed leaves no thread behind, nor does one that could not be opened."""
    async with SqliteStore(path, model=MODEL) as store:
        await store_passages(store, "d", passages("a"))
        await found(store)
    refused = SqliteStore(path, model="another")
    with pytest.raises(StoreError):
        await refused.__aenter__()
    ours = [thread for thread in threading.enumerate() if "sqlite" in thread.name]
    assert ours == []
