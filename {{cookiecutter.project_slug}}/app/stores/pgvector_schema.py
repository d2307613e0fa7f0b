"""The tables of a PostgreSQL store, which embedding model filled them, and the index by vectors.

The column of vectors has no dimension; the index has, so it is made with the first passage. HNSW
indexes take up to 2,000 dimensions, and up to 4,000 in half precision; vectors that have more
are compared one by one.

Needs `pgvector_connections`, `pgvector_migrating` and `protocol` beside it, psycopg and pgvector.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

from pgvector.psycopg import register_vector_async
from psycopg import sql

from .pgvector_connections import Connection
from .pgvector_migrating import HEAD, VERSION_TABLE, migrate
from .protocol import EmbeddingMismatchError

MAX_INDEXED = 2000
MAX_INDEXED_HALF = 4000


@dataclass(frozen=True, slots=True)
class Label:
    """What the vectors are; `filled` says whether there are any."""

    model: str
    dimension: int | None
    filled: bool


async def label(connection: Connection, lock: Literal["", "FOR SHARE", "FOR UPDATE"] = "") -> Label:
    """Read the store's label; locked, it does not change before the transaction ends."""
    query = sql.SQL("SELECT model, dimension FROM label {}").format(sql.SQL(lock))
    row = await (await connection.execute(query)).fetchone()
    assert row is not None  # noqa: S101 -- set_up has made it
    model, dimension = row
    return Label(model, dimension, await _filled(connection))


async def _filled(connection: Connection) -> bool:
    """Whether there is a passage: after the lock, as a statement sees what was there before it."""
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM passages)")
    return (await cursor.fetchone() or (False,))[0] is True


def check(now: Label, model: str, dimension: int | None) -> None:
    """Raise EmbeddingMismatchError if vectors do not go with those of a filled store."""
    if now.model != model:
        raise EmbeddingMismatchError(
            f"The store was filled by the embedding model {now.model!r}, which compares with "
            f"nothing of {model!r}: go back to that model, or use an empty store"
        )
    if dimension not in {None, now.dimension}:
        raise EmbeddingMismatchError(
            f"A vector of {model!r} has {dimension} dimensions, "
            f"but those in the store have {now.dimension}"
        )


async def set_up(connection: Connection, *, address: str, model: str) -> None:
    """Make the tables if need be, and label a store without passages with the model."""
    if await _version(connection) != HEAD:
        await asyncio.to_thread(migrate, address)
    await register_vector_async(connection)
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO label (model) VALUES (%s) ON CONFLICT DO NOTHING", (model,)
        )
        if (await label(connection)).model == model:
            return
        now = await label(connection, "FOR UPDATE")
        if now.filled:
            check(now, model, dimension=None)
        await connection.execute("UPDATE label SET model = %s", (model,))


async def fix_dimension(connection: Connection, model: str, dimension: int | None) -> None:
    """Hold new passages to the store's model and dimension, or an empty store to theirs.

    Nobody else can change either until the transaction ends. Only who does so waits for all
    others that are storing passages.
    """
    as_before = dimension in {None, (await label(connection)).dimension}
    now = await label(connection, "FOR SHARE" if as_before else "FOR UPDATE")
    check(now, model, dimension if now.filled else None)
    if dimension not in {None, now.dimension}:
        await connection.execute("UPDATE label SET dimension = %s", (dimension,))
        await _make_index(connection, indexed(dimension or 0))


def indexed(dimension: int) -> str | None:
    """Return the type that vectors of a dimension are indexed as; None if they are not."""
    if dimension > MAX_INDEXED_HALF:
        return None
    return f"{'vector' if dimension <= MAX_INDEXED else 'halfvec'}({dimension})"


async def _make_index(connection: Connection, type_: str | None) -> None:
    """Make the index anew; the store is empty. Vectors have length 1, so the product is enough."""
    await connection.execute("DROP INDEX IF EXISTS passages_by_vector")
    if type_ is None:
        return
    await connection.execute(
        sql.SQL(
            "CREATE INDEX passages_by_vector ON passages USING hnsw ((vector::{}) {}_ip_ops)"
        ).format(sql.SQL(type_), sql.SQL(type_.partition("(")[0]))
    )


async def _version(connection: Connection) -> str | None:
    """Return of which version the tables are; None if there are none."""
    cursor = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (VERSION_TABLE,))
    if await cursor.fetchone() != (True,):
        return None
    query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(VERSION_TABLE))
    row = await (await connection.execute(query)).fetchone()
    return row[0] if row else None
