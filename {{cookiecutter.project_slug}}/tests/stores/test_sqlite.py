"""What only SQLite promises: about its file, its locks, its threads and the vectors in memory."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from app.stores import sqlite
from app.stores.base import Passage, Source, StoreUnavailableError
from app.stores.sqlite import SqliteStore
from tests.stores.test_contract import LONG, NEAR, found, passages, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Provide the path of a file that does not exist."""
    return tmp_path / "documents.db"


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Provide a connection as another process has it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def test_locked_by_another_process(
    path: Path, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process changes the file searches go on; others wait BUSY_TIMEOUT.

    However often it is cancelled, a change ends before its caller goes on; one that waits for
    another of the same process is not made.
    """
    other.execute("BEGIN IMMEDIATE")
    opening = asyncio.create_task(SqliteStore(f"sqlite:///{path}").__aenter__())
    await asyncio.wait([opening], timeout=0.05)
    other.execute("ROLLBACK")
    async with asyncio.timeout(LONG), await opening as store:
        await put(store, "d", passages("a"))
        other.execute("BEGIN IMMEDIATE")
        assert await found(store) == ["a"]
        change, waiting = (asyncio.create_task(put(store, "d", passages(text))) for text in "bc")
        await asyncio.sleep(0)
        for _ in range(3):
            change.cancel()
            waiting.cancel()
            await asyncio.wait([change, waiting], timeout=0.05)
        assert (change.done(), waiting.cancelled()) == (False, True)
        other.execute("ROLLBACK")
        await asyncio.wait([change])
        assert (change.cancelled(), await found(store)) == (True, ["b"])
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            await put(store, "d", passages("c"))
        other.execute("ROLLBACK")
        assert other.execute("SELECT count(*) FROM words").fetchone() == (1,)


async def test_vectors_in_memory(path: Path) -> None:
    """However passages come and go, in any process, a search by vectors is exact."""
    generator, stored = np.random.default_rng(7), dict[str, list[Passage]]()
    async with SqliteStore(f"sqlite:///{path}") as one, SqliteStore(f"sqlite:///{path}") as other:
        for step in range(60):
            name, size = f"d{generator.integers(9)}", int(generator.integers(20))
            rows = generator.standard_normal((size, 8)).astype(np.float32)
            stored[name] = [Passage(f"{name} {n}", row) for n, row in enumerate(rows)]
            await (one, other)[step % 2].replace(Source(name, ""), stored[name])
            parts = [part for parts in stored.values() for part in parts]
            parts.sort(key=lambda part: float(part.vector @ -NEAR))
            assert await found(one, limit=10) == [part.text for part in parts[:10]]
