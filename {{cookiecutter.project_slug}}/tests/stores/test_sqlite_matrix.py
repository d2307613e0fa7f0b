"""The vectors in memory are those in the file, however it was changed."""

import random
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.stores import sqlite_documents
from app.stores.protocol import Document, Passage
from app.stores.sqlite_matrix import MAX_DEAD, Matrix, View
from app.stores.sqlite_schema import set_up
from tests.stores.contract import DIMENSION, LONG, MODEL, axis

Row = tuple[float, ...]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    """Provide an empty store's tables."""
    with closing(sqlite3.connect(":memory:")) as connection:
        set_up(connection, MODEL)
        yield connection


def store(
    database: sqlite3.Connection, name: str, count: int, dimension: int = DIMENSION
) -> set[Row]:
    """Store a document of so many random vectors in place of an earlier one; return these."""
    rows = np.random.default_rng(random.getrandbits(32)).standard_normal((count, dimension))
    vectors = rows.astype(np.float32)
    sqlite_documents.submit(database, Document(name, "1", name), b"")
    parts = [Passage("text", vector) for vector in vectors]
    assert sqlite_documents.upsert(database, MODEL, name, "1", parts, "")
    return {tuple(vector) for vector in vectors}


def rows_of(view: View) -> set[Row]:
    """Return all vectors of a view, the dead ones too."""
    return {tuple(row) for row in view.rows}


def test_follows_every_change(database: sqlite3.Connection) -> None:
    """After whatever changes a view has the living vectors, and says how many others."""
    random.seed(7)
    matrix, other, stored = Matrix(), Matrix(), dict[str, set[Row]]()
    for step in range(300):
        name = f"d{random.randrange(12)}"
        if random.random() < 0.2:
            sqlite_documents.delete(database, name)
            stored.pop(name, None)
        else:
            stored[name] = store(database, name, random.randrange(40))
        living = set[Row]().union(*stored.values())
        for view in [matrix.view(database)] + [other.view(database)] * (step % 50 == 0):
            assert rows_of(view) >= living
            assert len(view.rows) == len(view.ids) == len(living) + view.dead
            assert view.living == len(living)
            assert view.dead <= MAX_DEAD


def test_unchanged_store_is_not_read(database: sqlite3.Connection) -> None:
    """A view of a state that was seen before reads no passage."""
    matrix = Matrix()
    for count in (10, 20):
        store(database, "a", count)
        matrix.view(database)
    statements: list[str] = []
    database.set_trace_callback(statements.append)
    matrix.view(database)
    assert not any("passages" in statement for statement in statements)


def test_views_one_after_the_other(tmp_path: Path) -> None:
    """Two threads that meet a change load it once."""
    path = tmp_path / "documents.db"
    loading, gate = threading.Event(), threading.Event()

    class Gated(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
            if "vector" in sql:
                loading.set()
                assert gate.wait(LONG)
            return super().execute(sql, parameters)

    def view(factory: type[sqlite3.Connection]) -> View:
        with closing(sqlite3.connect(path, factory=factory)) as connection:
            return matrix.view(connection)

    with closing(sqlite3.connect(path)) as connection:
        set_up(connection, MODEL)
        stored = store(connection, "a", 10)
        connection.commit()
    matrix = Matrix()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(view, Gated)
        assert loading.wait(LONG)
        second = threads.submit(view, sqlite3.Connection)
        wait([second], timeout=0.1)
        gate.set()
        for future in (first, second):
            assert rows_of(future.result()) == stored
            assert (future.result().living, future.result().dead) == (10, 0)


def test_each_id_has_its_vector(database: sqlite3.Connection) -> None:
    """Ids and vectors stay together through growth and sweeping."""
    matrix = Matrix()
    for step in range(40):
        store(database, f"d{step % 4}", 60)
        matrix.view(database)
    view = matrix.view(database)
    vectors = dict(database.execute("SELECT id, vector FROM passages").fetchall())
    held = {id_: row.tobytes() for id_, row in zip(view.ids.tolist(), view.rows, strict=True)}
    assert {id_: held[id_] for id_ in vectors} == vectors


def test_the_dead_are_swept_out(database: sqlite3.Connection) -> None:
    """When many are dead only the living are kept."""
    matrix = Matrix()
    store(database, "a", MAX_DEAD)
    matrix.view(database)
    stored = store(database, "a", 5)
    assert matrix.view(database).dead == MAX_DEAD
    stored |= store(database, "b", 5)
    store(database, "c", 1)
    matrix.view(database)
    sqlite_documents.delete(database, "c")
    view = matrix.view(database)
    assert (view.dead, rows_of(view)) == (0, stored)


def test_a_view_stays_as_it_is(database: sqlite3.Connection) -> None:
    """What a search is reading is not changed by what later ones see."""
    matrix = Matrix()
    stored = store(database, "a", 10)
    view = matrix.view(database)
    for count in (1, 500, 3 * MAX_DEAD, 2):
        store(database, "b", count)
        matrix.view(database)
    assert rows_of(view) == stored
    assert view.dead == 0


def test_nearest(database: sqlite3.Connection) -> None:
    """The nearest are those of greatest product with the question, in order, and the dead more."""
    rows = np.random.default_rng(1).standard_normal((500, DIMENSION)).astype(np.float32)
    view = View(np.arange(100, 600), rows, dead=3)
    expected = (100 + np.argsort(-(rows @ axis(2)))).tolist()
    assert view.nearest(axis(2), 10) == expected[:13]
    assert view.nearest(axis(2), 1000) == expected
    assert View(np.empty(0, np.int64), rows[:0], dead=0).nearest(axis(2), 10) == []


def test_another_dimension(database: sqlite3.Connection) -> None:
    """A store that was emptied may be filled with vectors of another dimension."""
    matrix = Matrix()
    store(database, "a", 10)
    matrix.view(database)
    sqlite_documents.delete(database, "a")
    stored = store(database, "a", 10, dimension=3)
    view = matrix.view(database)
    assert (view.dead, rows_of(view)) == (0, stored)
