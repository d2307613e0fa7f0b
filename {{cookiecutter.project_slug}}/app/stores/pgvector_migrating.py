"""Brings the tables of a PostgreSQL store up to date with Alembic, from `pgvector_migrations`.

It blocks, so it belongs on a thread. Several processes may do it at the same time: an advisory
lock has the others wait, and then find it done. A new revision is written with
`alembic -c app/stores/pgvector_migrations/alembic.ini revision -m "what"` and becomes HEAD here;
`… upgrade head --sql` prints what an administrator may run instead.

Needs `pgvector_connections` and `protocol` beside it, the folder `pgvector_migrations`, Alembic,
SQLAlchemy and psycopg.
"""

from pathlib import Path
from threading import Lock

import psycopg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from .pgvector_connections import parameters
from .protocol import StoreError, StoreUnavailableError

FOLDER = Path(__file__).parent / "pgvector_migrations"
HEAD = "1"
"""The revision that this program works with."""
VERSION_TABLE = "passages_version"
TURN = Lock()
"""Alembic keeps what it is doing in globals of its modules: one thread at a time."""
TURN_TIMEOUT = 20.0


def migrate(address: str) -> None:
    """Bring the database's tables to HEAD; raise what psycopg raises, or StoreError."""
    # Not by a URL of SQLAlchemy's, so that libpq alone reads the address.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(**parameters(address)),
        poolclass=NullPool,
    )
    if not TURN.acquire(timeout=TURN_TIMEOUT):
        raise StoreUnavailableError("The store's tables are being made", retry_after=TURN_TIMEOUT)
    try:
        with engine.connect() as connection:
            _upgrade(connection)
    except DBAPIError as error:
        raise error.orig or error from None
    finally:
        TURN.release()


def _upgrade(connection: Connection) -> None:
    config = Config(FOLDER / "alembic.ini", attributes={"connection": connection})
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise StoreError(
            f"The store's tables are of a version that this program does not know: {error}"
        ) from error
