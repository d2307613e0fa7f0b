"""The tables of a SQLite store, and which embedding model filled them.

Times are kept by order: a document's `number` and a passage's `id` grow with each that is made.

Needs `protocol` and `sqlite_words` beside it.
"""

import sqlite3
from dataclasses import dataclass

from .protocol import EmbeddingMismatchError, StoreError
from .sqlite_words import TOKENIZER

VERSION = 1
"""Of the tables, kept in the file as its user_version."""

TABLES = (
    """CREATE TABLE label (model TEXT NOT NULL, dimension INTEGER, changes INTEGER NOT NULL)""",
    """CREATE TABLE documents (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision TEXT NOT NULL,
        title TEXT NOT NULL, url TEXT, metadata TEXT NOT NULL, state TEXT NOT NULL,
        attempts INTEGER NOT NULL, error TEXT)""",
    # Apart from the documents, each of whose changes would write the content anew.
    """CREATE TABLE contents (document_id TEXT PRIMARY KEY, content BLOB NOT NULL)""",
    # With the title and URL of the revision that they are from.
    """CREATE TABLE passages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, document_id TEXT NOT NULL,
        position INTEGER NOT NULL, title TEXT NOT NULL, url TEXT,
        vector BLOB NOT NULL, text TEXT NOT NULL)""",
    """CREATE INDEX passages_by_document ON passages (document_id)""",
    f"""CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = '{TOKENIZER}')""",
)


@dataclass(frozen=True, slots=True)
class Label:
    """What the vectors are, if there are any; `changes` counts how often there were others."""

    model: str
    dimension: int | None
    changes: int


def label(connection: sqlite3.Connection) -> Label:
    """Read the store's label."""
    return Label(*connection.execute("SELECT model, dimension, changes FROM label").fetchone())


def count(connection: sqlite3.Connection) -> int:
    """Count the passages: all in an index, 1 ms for 100,000."""
    counted: int = connection.execute("SELECT count(*) FROM passages").fetchone()[0]
    return counted


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


def set_up(connection: sqlite3.Connection, model: str) -> None:
    """Make the tables in a new file, and label a store without passages with the model."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in {0, VERSION}:
        raise StoreError(
            f"The store's tables are of version {version}, this program knows {VERSION}"
        )
    if version == 0:
        _make_tables(connection, model)
    now = label(connection)
    if count(connection):
        check(now, model, dimension=None)
    elif now.model != model:
        connection.execute("UPDATE label SET model = ?", (model,))


def _make_tables(connection: sqlite3.Connection, model: str) -> None:
    try:
        for table in TABLES:
            connection.execute(table)
    except sqlite3.OperationalError as error:
        if "fts5" not in str(error):
            raise
        raise StoreError(
            f"The SQLite of this Python ({sqlite3.sqlite_version}) is built without FTS5, "
            "which the store needs: use another Python, or another store"
        ) from error
    connection.execute("INSERT INTO label VALUES (?, NULL, 0)", (model,))
    connection.execute(f"PRAGMA user_version = {VERSION}")
