"""The catalogue's table, and the databases that it may be in.

Needs SQLAlchemy with an async driver: aiosqlite (SQLite, one machine) or psycopg (PostgreSQL).
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.errors import ServiceError

DRIVERS: dict[str, tuple[str, dict[str, Any]]] = {
    # Seconds for which a writer waits for others; without transactions of the driver's own.
    "sqlite": ("sqlite+aiosqlite", {"timeout": 10, "isolation_level": None}),
    "postgresql": ("postgresql+psycopg", {"connect_timeout": 3}),
}
"""The SQLAlchemy driver of each database, and the arguments of its connections."""

TABLES = sa.MetaData()
DOCUMENTS = sa.Table(
    "documents",
    TABLES,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("revision", sa.String(64), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("url", sa.Text),
    sa.Column("media_type", sa.Text),
    sa.Column("filename", sa.Text),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("fetched", sa.Boolean, nullable=False),
    sa.Column("content", sa.LargeBinary),
    sa.Column("error", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("lease", sa.String(32)),
    sa.Index("documents_by_due", "state", "due"),
)


class CatalogueMismatchError(ServiceError):
    """The database has an older schema, or documents embedded with another model."""

    type = "store_error"
    public_message = "the document catalogue is not available"


def build_engine(url: str) -> AsyncEngine:
    """Return an engine for sqlite:///file.db or postgresql://…; ValueError if it cannot be used."""
    try:
        parsed = sa.make_url(url)
        driver, arguments = DRIVERS[parsed.get_backend_name()]
        address = parsed.set(drivername=driver)
        engine = create_async_engine(address, pool_pre_ping=True, connect_args=arguments)
    except (ArgumentError, KeyError):
        raise ValueError("should be like sqlite:///file.db or postgresql://host/name") from None
    except ModuleNotFoundError as error:
        raise ValueError(f"needs the package {error.name}, which is not installed") from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine.sync_engine, "connect", _use_write_ahead_log)
        sa.event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def make_folder(engine: AsyncEngine) -> None:
    """Create the folder of an SQLite file."""
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)


def create_tables(connection: sa.Connection, model: str) -> None:
    """Create the table if it is missing, for documents embedded with `model`.

    CatalogueMismatchError if the database belongs to an older version, or another model.
    """
    if connection.dialect.name == "postgresql":  # one process at a time creates it
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(7316120956)))
    TABLES.create_all(connection)
    columns = {column["name"] for column in sa.inspect(connection).get_columns(DOCUMENTS.name)}
    if columns != set(DOCUMENTS.columns.keys()):
        raise CatalogueMismatchError(
            "the database has documents of an older version: use an empty one, and load them again"
        )
    query = sa.select(DOCUMENTS.c.model).where(DOCUMENTS.c.model != model).limit(1)
    if other := connection.scalar(query):
        raise CatalogueMismatchError(
            f"the documents were embedded with {other!r}, EMBEDDING_MODEL is {model!r}: set it "
            "back, or use an empty database and load the documents again"
        )


def _use_write_ahead_log(connection: Any, _: object) -> None:  # noqa: ANN401 -- an adapter
    connection.execute("PRAGMA journal_mode = WAL").close()


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock first: SQLite fails a read that becomes a write after another's write."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
