"""What is done to the documents of a SQLite store: each function within a transaction.

Needs `protocol`, `sqlite_schema`, `storable` and `words` beside it, and NumPy.
"""

import json
import sqlite3
from collections.abc import Sequence

import numpy as np

from .protocol import Document, EmbeddingMismatchError, Passage
from .sqlite_schema import check, count, label
from .storable import storable, storable_metadata
from .words import spaced


def submit(connection: sqlite3.Connection, document: Document, content: bytes) -> None:
    """Make it the newest document, queued; passages stay."""
    id_ = storable(document.id)
    _drop(connection, id_)
    connection.execute(
        "INSERT INTO documents (id, revision, title, url, metadata, state, attempts) "
        "VALUES (?, ?, ?, ?, ?, 'queued', 0)",
        (
            id_,
            storable(document.revision),
            storable(document.title),
            None if document.url is None else storable(document.url),
            json.dumps(storable_metadata(document.metadata)),
        ),
    )
    connection.execute("INSERT INTO contents VALUES (?, ?)", (id_, content))


def read(connection: sqlite3.Connection, document_id: str) -> Document | None:
    """Return the document with the count of its passages."""
    row = connection.execute(
        "SELECT id, revision, title, url, metadata, state, "
        "(SELECT count(*) FROM passages WHERE document_id = documents.id), attempts, error "
        "FROM documents WHERE id = ?",
        (storable(document_id),),
    ).fetchone()
    if row is None:
        return None
    id_, revision, title, url, metadata, state, passages, attempts, error = row
    return Document(
        id_, revision, title, url, json.loads(metadata), state, passages, attempts, error
    )


def begin(connection: sqlite3.Connection, document_id: str) -> tuple[Document, bytes] | None:
    """Count an attempt, and return what to work on."""
    begun = connection.execute(
        "UPDATE documents SET state = 'processing', attempts = attempts + 1 "
        "WHERE id = ? AND state IN ('queued', 'processing')",
        (storable(document_id),),
    )
    document = read(connection, document_id) if begun.rowcount else None
    if document is None:
        return None
    (content,) = connection.execute(
        "SELECT content FROM contents WHERE document_id = ?", (document.id,)
    ).fetchone()
    return document, content


def upsert(
    connection: sqlite3.Connection,
    model: str,
    document_id: str,
    revision: str,
    passages: Sequence[Passage],
    title: str,
) -> bool:
    """Replace the document's passages, unless the revision is no longer its own."""
    document = read(connection, document_id)
    if document is None or document.revision != storable(revision):
        return False
    _fix_dimension(connection, model, passages)
    _remove_passages(connection, document.id)
    title = document.title or storable(title)
    connection.executemany(
        "INSERT INTO passages (document_id, position, title, url, vector, text) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            (document.id, position, title, document.url, _blob(passage), storable(passage.text))
            for position, passage in enumerate(passages)
        ),
    )
    _index_words(connection, document.id)
    connection.execute(
        "UPDATE documents SET state = 'ready', error = NULL, title = ? WHERE id = ?",
        (title, document.id),
    )
    connection.execute("DELETE FROM contents WHERE document_id = ?", (document.id,))
    return True


def fail(connection: sqlite3.Connection, document_id: str, revision: str, error: str) -> None:
    """Note the error and drop the content, unless the revision is another, or ready."""
    failed = connection.execute(
        "UPDATE documents SET state = 'failed', error = ? "
        "WHERE id = ? AND revision = ? AND state != 'ready'",
        (storable(error), storable(document_id), storable(revision)),
    )
    if failed.rowcount:
        connection.execute("DELETE FROM contents WHERE document_id = ?", (storable(document_id),))


def delete(connection: sqlite3.Connection, document_id: str) -> bool:
    """Remove the document, what waits and what can be found of it."""
    id_ = storable(document_id)
    _remove_passages(connection, id_)
    return _drop(connection, id_)


def unfinished(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of what is queued or processing, as submitted."""
    rows = connection.execute(
        "SELECT id FROM documents WHERE state IN ('queued', 'processing') ORDER BY number"
    )
    return [id_ for (id_,) in rows]


def _blob(passage: Passage) -> bytes:
    return np.asarray(passage.vector, np.float32).tobytes()


def _fix_dimension(connection: sqlite3.Connection, model: str, passages: Sequence[Passage]) -> None:
    """Hold the passages to the store's model and dimension, or the store to theirs."""
    dimensions = {len(passage.vector) for passage in passages}
    if len(dimensions) > 1:
        raise EmbeddingMismatchError(
            f"The vectors of one document have different dimensions: {sorted(dimensions)}"
        )
    dimension = next(iter(dimensions), None)
    now = label(connection)
    check(now, model, dimension if count(connection) else None)
    connection.execute("UPDATE label SET dimension = coalesce(?, dimension)", (dimension,))


def _index_words(connection: sqlite3.Connection, document_id: str) -> None:
    rows = connection.execute(
        "SELECT id, text FROM passages WHERE document_id = ?", (document_id,)
    ).fetchall()
    connection.executemany(
        "INSERT INTO words (rowid, text) VALUES (?, ?)", ((id_, spaced(text)) for id_, text in rows)
    )


def _remove_passages(connection: sqlite3.Connection, document_id: str) -> None:
    connection.execute(
        "DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE document_id = ?)",
        (document_id,),
    )
    connection.execute("DELETE FROM passages WHERE document_id = ?", (document_id,))
    connection.execute("UPDATE label SET changes = changes + 1")


def _drop(connection: sqlite3.Connection, document_id: str) -> bool:
    connection.execute("DELETE FROM contents WHERE document_id = ?", (document_id,))
    dropped = connection.execute("DELETE FROM documents WHERE id = ?", (document_id,))
    return dropped.rowcount > 0
