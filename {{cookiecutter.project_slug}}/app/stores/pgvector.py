"""Passages in PostgreSQL with the pgvector extension, for many processes or machines.

Search by vectors uses an HNSW index, whose neighbours are approximate, up to 4,000 dimensions.
Search by words ranks by how rare the question's words are. Changes are atomic. The tables are
made at the first use, in the first schema of the search path; once they have to change, add
Alembic. A server that is not reachable fails single calls, not the start.

Needs psycopg 3.3 with its pool, and pgvector.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString, Self

import psycopg
from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from .base import Hit, Passage, Source, StoreUnavailableError, Vector
from .ranking import CANDIDATES, RRF_K, question_words, words

TIMEOUT, READ_TIMEOUT, WRITE_TIMEOUT = 3, 15, 120
"""Seconds: to connect, read and write; 4,000 passages of 1,536 dimensions took 30 s."""
OPTIONS = (
    "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s -c jit=off "
    "-c hnsw.iterative_scan=strict_order"
)
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS passages (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, document_id text NOT NULL, url text,
    title text NOT NULL, text text NOT NULL, words tsvector NOT NULL, vector vector NOT NULL);
CREATE INDEX IF NOT EXISTS passages_by_document ON passages (document_id);
CREATE INDEX IF NOT EXISTS passages_by_word ON passages USING gin (words)
    WITH (fastupdate = off);  -- else the planner avoids it after each bulk load
"""
INDEX: LiteralString = """
DO $$ BEGIN IF {dimension} <= 4000 AND to_regclass('passages_by_vector_{dimension}') IS NULL THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('passages', 0));
    CREATE INDEX IF NOT EXISTS passages_by_vector_{dimension} ON passages
    USING hnsw ((vector::{type}) {name}_ip_ops) WHERE vector_dims(vector) = {dimension};
END IF; END $$"""
# All are compared if the index reaches too few. Words of over 1,000 or half of all do not count.
SEARCH: LiteralString = """
WITH indexed AS (
    SELECT id, vector::{type} <#> %(vector)b::{type} AS distance FROM passages
    WHERE vector_dims(vector) = {dimension} ORDER BY distance LIMIT %(candidates)s),
near AS (
    SELECT id, row_number() OVER (ORDER BY min(distance)) AS rank FROM (
        SELECT * FROM indexed UNION ALL (
        SELECT id, (vector::{type} <#> %(vector)b::{type}) + 0 AS distance FROM passages
        WHERE (SELECT count(*) FROM indexed) < %(candidates)s AND vector_dims(vector) = {dimension}
        ORDER BY distance LIMIT %(candidates)s)) AS _ GROUP BY id),
store AS (SELECT count(*) AS size FROM (SELECT FROM passages LIMIT 2000) AS _),
found AS (
    SELECT lexeme, id FROM unnest(to_tsvector('english', %(question)s)), LATERAL (
        SELECT id FROM passages WHERE words @@ quote_literal(lexeme)::tsquery LIMIT 1001) AS _),
rare AS (
    SELECT lexeme, ln(size::float / count(*)) AS rarity FROM found, store
    GROUP BY lexeme, size HAVING count(*) <= size / 2),
worded AS (
    SELECT id, row_number() OVER (ORDER BY sum(rarity) DESC, id) AS rank
    FROM found JOIN rare USING (lexeme) GROUP BY id ORDER BY rank LIMIT %(candidates)s),
best AS (
    SELECT id, sum(1.0 / ({k} + rank)) AS score
    FROM (SELECT * FROM near UNION ALL SELECT * FROM worded) AS _
    GROUP BY id ORDER BY score DESC, id LIMIT %(limit)s)
SELECT document_id, text, title, url FROM best JOIN passages USING (id) ORDER BY score DESC, id
"""


class PgvectorStore:
    """A PassageStore in the database of postgresql://user:password@host:5432/database."""

    def __init__(self, address: str) -> None:
        self._parameters = _parameters(address)
        self._name = f"PostgreSQL, {self._parameters.get('host')}/{self._parameters.get('dbname')}"
        self._setting_up, self._is_set_up = asyncio.Lock(), asyncio.Event()
        self._pool = AsyncConnectionPool(
            kwargs=self._parameters,
            min_size=0,
            max_size=10,
            timeout=TIMEOUT,
            configure=register_vector_async,
            check=self._check,
            reconnect_timeout=0,
            reconnect_failed=lambda _: self._is_set_up.clear(),
            open=False,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def replace(self, source: Source, passages: Sequence[Passage]) -> None:
        """See `PassageStore.replace`; a search sees the old passages or the new ones."""
        cited = (source.id, source.title, source.url)
        rows = await asyncio.to_thread(
            lambda: [(*cited, one.text, " ".join(words(one.text)), one.vector) for one in passages]
        )
        async with self._connection(WRITE_TIMEOUT) as connection:
            for dimension in {len(passage.vector) for passage in passages}:
                await connection.execute(query(INDEX, dimension))
            await connection.commit()  # or others could not write until this is done
            await connection.execute(LOCK, (source.id,))
            await connection.execute("DELETE FROM passages WHERE document_id = %s", (source.id,))
            await connection.cursor().executemany(
                "INSERT INTO passages (document_id, title, url, text, words, vector) "
                "VALUES (%s, %s, %s, %s, to_tsvector('english', %s), %b)",
                rows,
            )

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """See `PassageStore.search`."""
        question, many = " ".join(question_words(text)), max(CANDIDATES, limit)
        parameters = {"question": question, "vector": vector, "candidates": many, "limit": limit}
        async with self._connection() as connection:
            found = await connection.execute(query(SEARCH, len(vector)), parameters)
            return [Hit(*row) for row in await found.fetchall()]

    async def delete(self, document_id: str) -> None:
        """See `PassageStore.delete`."""
        await self.replace(Source(document_id, ""), [])

    async def count(self, document_id: str | None = None) -> int:
        """See `PassageStore.count`."""
        query = "SELECT count(*) FROM passages WHERE %(id)s::text IS NULL OR document_id = %(id)s"
        async with self._connection() as connection:
            found = await connection.execute(query, {"id": document_id})
            return int((await found.fetchone() or (0,))[0])

    @asynccontextmanager
    async def _connection(self, limit: float = READ_TIMEOUT) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with asyncio.timeout(limit):
                await self._set_up()
                async with self._pool.connection() as connection:
                    yield connection
        except (psycopg.Error, OSError) as error:
            raise StoreUnavailableError.from_error(self._name, error) from error

    async def _check(self, connection: AsyncConnection[Any]) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            await self._pool.drain()  # after a restart of the server all others are dead too
            raise

    async def _set_up(self) -> None:
        """Make the tables, also in a database that replaced a lost one."""
        async with self._setting_up:
            if self._is_set_up.is_set():
                return
            async with await AsyncConnection.connect(**self._parameters) as connection:
                await connection.execute(LOCK, ("passages",))
                await connection.execute(TABLES)
            self._is_set_up.set()


def _parameters(address: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    with suppress(psycopg.Error):
        given = dict(conninfo_to_dict(address)) if address.startswith("postgres") else {}
    if not given:
        raise ValueError("Not a PostgreSQL address: use postgresql://user:password@host/name")
    return given | {"options": f"{given.get('options', '')} {OPTIONS}", "connect_timeout": TIMEOUT}


def query(template: LiteralString, dimension: int) -> sql.Composed:
    """Return a query for vectors of this dimension, of which HNSW takes more in half precision."""
    name = sql.SQL("halfvec" if dimension in range(2001, 4001) else "vector")
    type_ = sql.SQL("{}({})").format(name, dimension)
    return sql.SQL(template).format(dimension=dimension, type=type_, name=name, k=RRF_K)
