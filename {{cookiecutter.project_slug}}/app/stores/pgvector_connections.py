"""Connections to one PostgreSQL database from asyncio: a bounded pool, and a bound on each wait.

Writers have a part of the pool only: reads go on, however many wait for what another has locked.

The database is set up before the first call, and again after it was lost. That a connection is
dead shows when a transaction begins on it, before anything was done; the call then goes on with
another.

Needs `protocol` beside it, psycopg 3.3 and psycopg_pool.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from .protocol import StoreError, StoreUnavailableError

T = TypeVar("T")
Connection = AsyncConnection[TupleRow]
Work = Callable[[Connection], Awaitable[T]]

SCHEMES = ("postgresql://", "postgres://")
MAX_CONNECTIONS = 10
MAX_WRITERS = 6
PATIENCE = 3
"""Seconds: for each host to let us in, for a free connection, for a transaction to begin."""
LOCK_TIMEOUT = 2
"""Seconds for a row that another has locked: below PATIENCE, so that who is behind gets a turn."""
CANCEL_TIMEOUT = 1.0
SET_UP_TIMEOUT = 20.0
READ_TIMEOUT = 15.0
WRITE_TIMEOUT = 120.0
"""Seconds: a document of 4,000 passages of 1,536 dimensions took 30 s, most of it for the index."""
RETRY_AFTER = 1.0
OPTIONS = (
    # So that the server too gives up what nobody waits for.
    "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s "
    "-c client_connection_check_interval=5s "
    # A search goes on until it has as many as were asked for, whatever was deleted meanwhile.
    "-c hnsw.ef_search=100 -c hnsw.iterative_scan=strict_order "
    # It takes less time than to compile it would.
    "-c jit=off"
)


class _Connection(AsyncConnection[TupleRow]):
    """One that is closed when a cancelled call cannot be stopped in the server within a second."""

    async def cancel_safe(self, *, timeout: float = CANCEL_TIMEOUT) -> None:  # noqa: ASYNC109 -- as in psycopg
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_TIMEOUT))
        except BaseException:
            self.pgconn.finish()
            raise


def parameters(address: str) -> dict[str, Any]:
    """Return what libpq is to be told; ValueError, which does not show the address, if it is none.

    They have our PATIENCE, and our OPTIONS after those of the address.
    """
    wanted = "it must be like postgresql://user:password@host:5432/database"
    if not address.startswith(SCHEMES):
        raise ValueError(f"That is no PostgreSQL address: {wanted}")
    try:
        given: dict[str, Any] = dict(conninfo_to_dict(address))
    except psycopg.Error:
        raise ValueError(f"libpq cannot read that PostgreSQL address: {wanted}") from None
    options = f"{given.get('options', '')} {OPTIONS}".strip()
    return given | {"options": options, "connect_timeout": PATIENCE}


class Connections:
    """Runs functions that take a connection, in transactions.

    `set_up` is run on a connection before any other function; adapters that it registers are all
    connections'. What psycopg raises becomes StoreUnavailableError if it may heal, else
    StoreError. What has taken its whole time in vain is to be tried again no sooner than after
    as long (`retry_after`).
    """

    def __init__(
        self, address: str, set_up: Work[None], *, write_timeout: float = WRITE_TIMEOUT
    ) -> None:
        self._write_timeout = write_timeout
        self._writers = asyncio.Semaphore(MAX_WRITERS)
        self._parameters = parameters(address)
        self._set_up = set_up
        host, database = (self._parameters.get(key, "") for key in ("host", "dbname"))
        self._name = f"PostgreSQL, {host}/{database}"
        self._pool = AsyncConnectionPool(
            kwargs=self._parameters,
            connection_class=_Connection,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            timeout=PATIENCE,
            reconnect_timeout=0,
            reconnect_failed=self._lost,
            name=__name__,
            open=False,
        )
        self._turn = asyncio.Lock()
        self._is_ready = asyncio.Event()
        self._closed = False
        self._failed_at, self._failure = 0.0, ""

    async def open(self) -> None:
        """Begin; the database need not be there."""
        await self._pool.open()

    async def close(self) -> None:
        """Refuse further calls; those under way go on, and their connections are then closed."""
        self._closed = True
        await self._pool.close()

    async def ready(self) -> None:
        """Set the database up, if that is not done; those who come meanwhile share the outcome."""
        if self._closed:
            raise StoreUnavailableError(f"{self._name}: the store is closed")
        if self._is_ready.is_set():
            return
        came_at = time.monotonic()
        async with self._turn:
            if self._is_ready.is_set():
                return
            if self._failed_at > came_at:
                raise StoreUnavailableError(self._failure, retry_after=RETRY_AFTER)
            try:
                await self._translating(self._make_ready(), SET_UP_TIMEOUT)
            except StoreUnavailableError as error:
                self._failed_at, self._failure = time.monotonic(), str(error)
                raise

    async def read(self, work: Work[T]) -> T:
        """Run a function that sees one committed state, and return its result."""
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        return await self._translating(self._run(begin, work), READ_TIMEOUT)

    async def write(self, work: Work[T], *, patient: bool = False) -> T:
        """Run a function of which all or nothing is done, and return its result.

        It waits PATIENCE for its turn and LOCK_TIMEOUT for a row that another has locked;
        `patient`, which is for what would be dear to repeat, only ends with the timeouts of a
        statement (30 s) and of the whole.
        """
        return await self._translating(self._write(work, patient=patient), self._write_timeout)

    async def _make_ready(self) -> None:
        connection = await _Connection.connect(**self._parameters, autocommit=True)
        async with connection:
            await self._set_up(connection)
        self._pool.kwargs = self._parameters | {"autocommit": True, "context": connection}
        await self._pool.drain()  # what was connected before knows neither server nor types
        self._is_ready.set()

    async def _write(self, work: Work[T], *, patient: bool) -> T:
        try:
            async with asyncio.timeout(None if patient else PATIENCE):
                await self._writers.acquire()
        except TimeoutError:
            said = f"{self._name}: {MAX_WRITERS} others are writing"
            raise StoreUnavailableError(said, retry_after=RETRY_AFTER) from None
        try:
            wait = "" if patient else f"; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"
            return await self._run(f"BEGIN{wait}", work)
        finally:
            self._writers.release()

    async def _run(self, begin: str, work: Work[T]) -> T:
        while True:
            await self.ready()
            async with self._pool.connection() as connection:
                if await self._begins(connection, begin):
                    return await work(connection)

    async def _begins(self, connection: Connection, begin: str) -> bool:
        """Begin a transaction; False, and the database is to be set up anew, if that fails."""
        try:
            async with asyncio.timeout(PATIENCE):
                await connection.execute(begin, prepare=False)  # several statements cannot be
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError):
            await connection.close()
            self._is_ready.clear()
            return False
        return True

    def _lost(self, _: object) -> None:
        """Have the next call look whether the database is there, as the pool has not reached it."""
        self._is_ready.clear()

    async def _translating(self, work: Awaitable[T], patience: float) -> T:
        try:
            async with asyncio.timeout(patience):
                return await work
        except TimeoutError as error:  # ours: psycopg's are OperationalErrors
            raise StoreUnavailableError(self._line(error), retry_after=patience) from error
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            raise StoreUnavailableError(self._line(error), retry_after=RETRY_AFTER) from error
        except psycopg.Error as error:
            self._is_ready.clear()  # the tables may be gone
            raise StoreError(self._line(error)) from error

    def _line(self, error: Exception) -> str:
        lines = str(error).splitlines() or ["no answer in time"]
        return f"{self._name}: {lines[0]}"
