"""The vectors of a SQLite store in memory, for exact search by one pass over all of them.

Loaded at the first search and then kept up to date by ids, which only grow and are never used
twice: new are those with a higher id, so following what another process has stored costs no more
than reading that. Vectors of passages that are gone stay as dead rows until there are many; who
searches asks for as many more, and drops them.

Memory: 4 bytes a component, so 205 MB for 100,000 vectors of 512; up to twice that while it
grows. Each view is of one state of the database and is not changed by later ones.

Needs `sqlite_schema` beside it, and NumPy 2.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from .sqlite_schema import count, label

MAX_DEAD = 1000
"""Rows: more are swept out, which copies the matrix."""
BATCH = 1000
"""Vectors that are read in one go."""


@dataclass(frozen=True, slots=True)
class View:
    """The vectors of one state of the database, and `dead` others."""

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    dead: int

    @property
    def living(self) -> int:
        """How many passages there are."""
        return len(self.ids) - self.dead

    def nearest(self, vector: NDArray[np.float32], limit: int) -> list[int]:
        """Return the ids of the nearest vectors, best first: `limit` living ones and any dead."""
        count = min(limit + self.dead, len(self.ids))
        if count == 0:
            return []
        # Not `@`: BLAS would spread it over all cores, to wait for those that others keep busy.
        scores = np.vecdot(self.rows, vector)
        best = np.argpartition(scores, -count)[-count:]
        found: list[int] = self.ids[best[np.argsort(-scores[best])]].tolist()
        return found


class Matrix:
    """The vectors of the passages, as of the latest state that any search has seen."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._changes: int | None = None
        self._forget(dimension=0)

    def view(self, connection: sqlite3.Connection) -> View:
        """Begin a transaction's reading: return the vectors of the state that it sees.

        The lock makes sure that one transaction after the other sees a later state.
        """
        with self._lock:
            now = label(connection)
            if now.changes != self._changes:
                self._follow(connection, now.dimension or 0)
                self._changes = now.changes
            return View(self._ids[: self._used], self._rows[: self._used], self._dead)

    def _forget(self, dimension: int) -> None:
        self._ids = np.empty(0, np.int64)
        self._rows = np.empty((0, dimension), np.float32)
        self._used = self._dead = 0

    def _follow(self, connection: sqlite3.Connection, dimension: int) -> None:
        if dimension != self._rows.shape[1]:
            self._forget(dimension)
        living = count(connection)
        self._make_room(living)
        known = int(self._ids[self._used - 1]) if self._used else 0
        new = connection.execute(
            "SELECT id, vector FROM passages WHERE id > ? ORDER BY id", (known,)
        )
        while batch := new.fetchmany(BATCH):
            self._append(batch)
        self._dead = self._used - living
        if self._dead > MAX_DEAD:
            self._sweep(connection)

    def _append(self, batch: Sequence[tuple[int, bytes]]) -> None:
        end = self._used + len(batch)
        self._make_room(end)
        rows = np.frombuffer(b"".join(vector for _, vector in batch), np.float32)
        self._ids[self._used : end] = [id_ for id_, _ in batch]
        self._rows[self._used : end] = rows.reshape(len(batch), -1)
        self._used = end

    def _make_room(self, size: int) -> None:
        """Grow by copying, and by a quarter more: views of the old arrays stay as they are."""
        if size <= len(self._ids):
            return
        ids, rows = self._ids[: self._used], self._rows[: self._used]
        self._ids = np.empty(size + size // 4, np.int64)
        self._rows = np.empty((len(self._ids), rows.shape[1]), np.float32)
        self._ids[: self._used], self._rows[: self._used] = ids, rows

    def _sweep(self, connection: sqlite3.Connection) -> None:
        living = np.fromiter(
            (id_ for (id_,) in connection.execute("SELECT id FROM passages")), np.int64
        )
        keep = np.isin(self._ids[: self._used], living)
        self._ids, self._rows = self._ids[: self._used][keep], self._rows[: self._used][keep]
        self._used, self._dead = len(self._ids), 0
