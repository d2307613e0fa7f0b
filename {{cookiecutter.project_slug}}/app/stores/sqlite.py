"""Passages in one SQLite file: nothing to install, nothing to run beside the service.

Search by vectors is exact and in memory: 2 KB a passage of 512 dimensions in each process that
searches, twice that while it reads changes, so meant for up to about 50,000 passages. Search by
words uses FTS5. Changes are atomic; a cancelled one is committed or rolled back before the
cancellation goes on. Any number of processes on one machine may use the file (its WAL mode needs a
local disk). Needs NumPy.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

import numpy as np

from .base import Hit, Passage, Source, StoreUnavailableError, Vector
from .ranking import CANDIDATES, RRF_K, question_words, words

T = TypeVar("T")

BUSY_TIMEOUT = 10.0
"""Seconds for which a change waits for those of other processes."""
CHANGE = "BEGIN IMMEDIATE"
TABLES = """
CREATE TABLE IF NOT EXISTS passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document_id TEXT NOT NULL,
    title TEXT NOT NULL, url TEXT, vector BLOB NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS passages_by_document ON passages (document_id);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (text, tokenize = 'porter unicode61');
"""
FUSED = """
SELECT document_id, text, title, url FROM (
    SELECT value AS id, key + 1 AS rank FROM json_each(:near) UNION ALL
    SELECT value, key + 1 FROM json_each(:worded)) JOIN passages USING (id)
GROUP BY id ORDER BY sum(1.0 / (:k + rank)) DESC, id LIMIT :limit
"""


class SqliteStore:
    """A PassageStore in the file of `sqlite:///relative.db` or `sqlite:////absolute.db`."""

    def __init__(self, address: str) -> None:
        path = address.removeprefix("sqlite:///")
        if path in {address, "", ":memory:"} or set(path) & set("?#\0"):
            raise ValueError("Not a SQLite file: use sqlite:///relative.db or sqlite:////full.db")
        self._path = Path(path)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="sqlite")
        self._writing = asyncio.Lock()
        self._matrix = _Matrix()

    async def __aenter__(self) -> Self:
        await self._run(_set_up, begin="")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False)

    async def replace(self, source: Source, passages: Sequence[Passage]) -> None:
        """See `PassageStore.replace`; a search sees the old passages or the new ones."""

        def work(db: sqlite3.Connection) -> None:
            ids = "SELECT id FROM passages WHERE document_id = ?"
            db.execute(f"DELETE FROM words WHERE rowid IN ({ids})", (source.id,))  # noqa: S608
            db.execute("DELETE FROM passages WHERE document_id = ?", (source.id,))
            for passage in passages:
                vector = np.asarray(passage.vector, np.float32).tobytes()
                id_ = db.execute(
                    "INSERT INTO passages (document_id, title, url, vector, text) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (source.id, source.title, source.url, vector, passage.text),
                ).lastrowid
                indexed = " ".join(words(passage.text))
                db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (id_, indexed))

        async with self._writing:
            await self._run(work, CHANGE)

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """See `PassageStore.search`."""

        def work(db: sqlite3.Connection) -> list[Hit]:
            candidates = max(CANDIDATES, limit)
            near = json.dumps(self._matrix.nearest(db, vector, candidates))
            worded = json.dumps(_by_words(db, text, candidates))
            parameters = {"near": near, "worded": worded, "k": RRF_K, "limit": limit}
            return [Hit(*row) for row in db.execute(FUSED, parameters)]

        return await self._run(work)

    async def delete(self, document_id: str) -> None:
        """See `PassageStore.delete`."""
        await self.replace(Source(document_id, ""), [])

    async def count(self, document_id: str | None = None) -> int:
        """See `PassageStore.count`."""
        query = "SELECT count(*) FROM passages WHERE ?1 IS NULL OR document_id = ?1"
        return await self._run(lambda db: _number(db, query, document_id))

    async def _run(self, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN") -> T:
        """Run a function in a thread, in a transaction; a change to its end, even if cancelled."""

        def run() -> T:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None)
            with closing(db), db:
                db.execute(begin)
                return work(db)

        future = asyncio.get_running_loop().run_in_executor(self._threads, run)
        try:
            return await asyncio.shield(future)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailableError.from_error(f"SQLite, {self._path}", error) from error
        finally:
            while begin == CHANGE and not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])


class _Matrix:
    """The vectors in memory; a search after a change reads the new ones, as ids only grow."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._state: tuple[int, ...] = ()
        self._ids, self._rows = np.empty(0, np.int64), np.empty((0, 0), np.float32)

    def nearest(self, db: sqlite3.Connection, vector: Vector, limit: int) -> list[int]:
        """Return the ids of the nearest passages, best first."""
        with self._lock:  # around a transaction's first read, so that it sees no earlier state
            rows = db.execute("SELECT count(*), max(id) FROM passages").fetchone()
            state = (len(vector), *rows)
            if state != self._state:
                self._follow(db, len(vector))
                self._state = state
            ids, vectors = self._ids, self._rows
        scores = np.vecdot(vectors, vector)  # not by `@`, which would take all cores
        return [int(id_) for id_ in ids[np.argsort(-scores)[:limit]]]

    def _follow(self, db: sqlite3.Connection, dimension: int) -> None:
        if self._rows.shape[1] != dimension:
            self._ids, self._rows = np.empty(0, np.int64), np.empty((0, dimension), np.float32)
        living = np.isin(self._ids, [id_ for (id_,) in db.execute("SELECT id FROM passages")])
        ids, blocks = [self._ids[living]], [self._rows[living]]
        new = db.execute(
            "SELECT id, vector FROM passages WHERE id > ? AND length(vector) = ? ORDER BY id",
            (int(self._ids.max(initial=0)), 4 * dimension),
        )
        while batch := new.fetchmany(4096):
            numbers, vectors = zip(*batch, strict=True)
            ids.append(np.array(numbers))
            blocks.append(np.frombuffer(b"".join(vectors), np.float32).reshape(-1, dimension))
        self._ids, self._rows = np.concatenate(ids), np.concatenate(blocks)


def _set_up(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.OperationalError):  # another process is just doing it
        db.execute("PRAGMA journal_mode = WAL")
    db.executescript(TABLES)


def _by_words(db: sqlite3.Connection, question: str, limit: int) -> list[int]:
    """Rank by the words that at most half of the passages have."""
    most = _number(db, "SELECT count(*) FROM passages") / 2
    having = "SELECT count(*) FROM words WHERE words MATCH ?"
    terms = [f'"{word}"' for word in question_words(question)]
    chosen = " OR ".join(term for term in terms if _number(db, having, term) <= most)
    query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?"
    return [id_ for (id_,) in db.execute(query, (chosen or '""', limit))]


def _number(db: sqlite3.Connection, query: str, *parameters: str | None) -> int:
    return int(db.execute(query, parameters).fetchone()[0])
