"""Connections to one SQLite file from asyncio: on threads of their own, never on the event loop's.

Writers take turns on one thread, readers share a few; in WAL mode neither waits for the other.
A call that is cancelled before its turn is not made; one that is under way is finished by its
thread, and whoever cancelled does not wait for it. Closing lets the calls under way finish.

Needs `protocol` beside it.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar

from .protocol import StoreUnavailableError

T = TypeVar("T")

READERS = 4
PREFIX = "sqlite:///"
RETRY_AFTER = 1.0
"""Seconds: what makes SQLite fail and heals at all (a lock, a full disk) seldom heals faster."""


def database_file(address: str | Path) -> Path:
    """Return the file of `sqlite:///relative.db` or `sqlite:////absolute.db`; a Path is one.

    ValueError for any other address. A database in memory is none: each connection has its own.
    """
    if isinstance(address, Path):
        return address
    path = address.removeprefix(PREFIX)
    if path == address or path in {"", ":memory:"} or set(path) & set("?#\0"):
        raise ValueError(
            f"{address!r} is no SQLite file: it must be like sqlite:///relative.db or "
            "sqlite:////absolute/path.db"
        )
    return Path(path)


@contextmanager
def transaction(
    connection: sqlite3.Connection, kind: Literal["DEFERRED", "IMMEDIATE"]
) -> Iterator[None]:
    """Commit what is done inside, or undo it. DEFERRED reads one state of the database."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class Connections:
    """Runs functions that take a connection, in transactions on the file `path`.

    `busy_timeout`: seconds for which a writer waits for one in another process. What SQLite
    raises becomes StoreUnavailableError, as does any call once they are closed.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._closed = False

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that sees one committed state, and return its result."""
        return await self._run(self._readers, work, "DEFERRED")

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function of which all or nothing is done, and return its result."""
        return await self._run(self._writer, work, "IMMEDIATE")

    async def close(self) -> None:
        """Refuse further calls, wait for those under way, close every connection."""
        self._closed = True
        await asyncio.to_thread(self._close)

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        work: Callable[[sqlite3.Connection], T],
        kind: Literal["DEFERRED", "IMMEDIATE"],
    ) -> T:
        if self._closed:
            raise StoreUnavailableError(f"The store {self._path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, self._do, work, kind)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailableError(
                f"SQLite, {self._path}: {error}", retry_after=RETRY_AFTER
            ) from error

    def _do(
        self, work: Callable[[sqlite3.Connection], T], kind: Literal["DEFERRED", "IMMEDIATE"]
    ) -> T:
        try:
            connection = self._idle.get_nowait()
        except Empty:  # as many are opened as threads have work at the same time
            connection = self._connect()
        try:
            with transaction(connection, kind):
                return work(connection)
        finally:
            self._idle.put(connection)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            _use_wal(connection, time.monotonic() + self._busy_timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        for threads in (self._readers, self._writer):
            threads.shutdown()
        while not self._idle.empty():
            self._idle.get().close()


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Put a new file into WAL mode: the one change where SQLite does not itself wait for others."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
