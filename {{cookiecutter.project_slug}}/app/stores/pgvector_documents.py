"""What is done to the documents of a PostgreSQL store: each function within a transaction.

Who changes a document locks its row first, so whoever comes second sees what the first has done.

Needs `pgvector_connections`, `pgvector_schema`, `pgvector_search`, `protocol` and `storable`
beside it, NumPy and psycopg.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from psycopg import sql
from psycopg.types.json import Json

from .pgvector_connections import Connection
from .pgvector_schema import fix_dimension
from .pgvector_search import searchable
from .protocol import Document, EmbeddingMismatchError, Passage
from .storable import storable, storable_metadata

DOCUMENT = sql.SQL(
    "id, revision, title, url, metadata, state, "
    "(SELECT count(*) FROM passages WHERE document_id = documents.id), attempts, error"
)


async def submit(connection: Connection, document: Document, content: bytes) -> None:
    """Make it the newest document, queued; passages stay."""
    await connection.execute(
        "INSERT INTO documents (id, revision, title, url, metadata, content, state, attempts) "
        "VALUES (%s, %s, %s, %s, %s, %b, 'queued', 0) ON CONFLICT (id) DO UPDATE SET "
        "number = DEFAULT, revision = excluded.revision, title = excluded.title, "
        "url = excluded.url, metadata = excluded.metadata, content = excluded.content, "
        "state = 'queued', attempts = 0, error = NULL",
        (
            storable(document.id),
            storable(document.revision),
            storable(document.title),
            None if document.url is None else storable(document.url),
            Json(storable_metadata(document.metadata)),
            content,
        ),
    )


async def read(connection: Connection, document_id: str) -> Document | None:
    """Return the document with the count of its passages."""
    query = sql.SQL("SELECT {} FROM documents WHERE id = %s").format(DOCUMENT)
    row = await (await connection.execute(query, (storable(document_id),))).fetchone()
    return Document(*row) if row else None


async def begin(connection: Connection, document_id: str) -> tuple[Document, bytes] | None:
    """Count an attempt, and return what to work on."""
    query = sql.SQL(
        "UPDATE documents SET state = 'processing', attempts = attempts + 1 "
        "WHERE id = %s AND state IN ('queued', 'processing') RETURNING {}, content"
    ).format(DOCUMENT)
    cursor = await connection.execute(query, (storable(document_id),), binary=True)
    row = await cursor.fetchone()
    return (Document(*row[:-1]), row[-1]) if row else None


async def upsert(
    connection: Connection,
    model: str,
    document_id: str,
    revision: str,
    passages: Sequence[Passage],
    title: str,
) -> bool:
    """Replace the document's passages, unless the revision is no longer its own."""
    cursor = await connection.execute(
        "SELECT id, title, url FROM documents WHERE id = %s AND revision = %s FOR UPDATE",
        (storable(document_id), storable(revision)),
    )
    document = await cursor.fetchone()
    if document is None:
        return False
    await fix_dimension(connection, model, _dimension(passages))
    id_, given, url = document
    await connection.execute("DELETE FROM passages WHERE document_id = %s", (id_,))
    await _insert(connection, (id_, given or storable(title), url), passages)
    await connection.execute(
        "UPDATE documents SET state = 'ready', error = NULL, title = %s, content = NULL "
        "WHERE id = %s",
        (given or storable(title), id_),
    )
    return True


async def fail(connection: Connection, document_id: str, revision: str, error: str) -> None:
    """Note the error and drop the content, unless the revision is another, or ready."""
    await connection.execute(
        "UPDATE documents SET state = 'failed', error = %s, content = NULL "
        "WHERE id = %s AND revision = %s AND state != 'ready'",
        (storable(error), storable(document_id), storable(revision)),
    )


async def delete(connection: Connection, document_id: str) -> bool:
    """Remove the document, what waits and what can be found of it."""
    cursor = await connection.execute(
        "DELETE FROM documents WHERE id = %s", (storable(document_id),)
    )
    return cursor.rowcount > 0


async def unfinished(connection: Connection) -> list[str]:
    """Return the ids of what is queued or processing, as submitted."""
    cursor = await connection.execute(
        "SELECT id FROM documents WHERE state IN ('queued', 'processing') ORDER BY number"
    )
    return [id_ for (id_,) in await cursor.fetchall()]


async def count(connection: Connection) -> int:
    """Count the passages."""
    row = await (await connection.execute("SELECT count(*) FROM passages")).fetchone()
    return row[0] if row else 0


def _dimension(passages: Sequence[Passage]) -> int | None:
    dimensions = {len(passage.vector) for passage in passages}
    if len(dimensions) > 1:
        raise EmbeddingMismatchError(
            f"The vectors of one document have different dimensions: {sorted(dimensions)}"
        )
    return next(iter(dimensions), None)


async def _insert(
    connection: Connection, source: tuple[Any, ...], passages: Sequence[Passage]
) -> None:
    """Insert passages of a source: document id, title, URL."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO passages (document_id, title, url, position, text, words, vector) "
            "VALUES (%s, %s, %s, %s, %s, to_tsvector('english', %s), %b)",
            (
                (
                    *source,
                    position,
                    storable(passage.text),
                    searchable(passage.text),
                    np.asarray(passage.vector, np.float32),
                )
                for position, passage in enumerate(passages)
            ),
        )
