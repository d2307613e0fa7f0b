"""Search in a PostgreSQL store: by vectors and by words, the two rankings fused.

Each ranking brings its best CANDIDATES. By words, a passage's rank is that of the summed rarity
(the inverse document frequency) of the question's words that it has; words that more than half of
the passages or MAX_HAVING of them have tell none from another and count for nothing. PostgreSQL
finds the words of a text and their English stems; case and accents make no difference. Not
covered: stems of other languages.

Needs `fusing`, `pgvector_connections`, `pgvector_schema`, `protocol`, `storable` and `words`
beside it, NumPy and psycopg.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
from psycopg import sql

from .fusing import fuse
from .pgvector_connections import Connection
from .pgvector_schema import check, indexed, label
from .protocol import Hit, Vector
from .storable import storable
from .words import spaced

CANDIDATES = 50
MAX_HAVING = 1000
MAX_WORDS = 32
"""Of a question: each costs time."""
MAX_CHARACTERS = 100_000
"""Of a passage, to be found by its words: PostgreSQL refuses a text with too many."""

BY_WORDS = """
WITH store AS (SELECT count(*) AS passages FROM (SELECT FROM passages LIMIT 2 * %(most)s) AS up_to),
question AS (
    SELECT lexeme FROM unnest(to_tsvector('english', %(question)s))
    ORDER BY length(lexeme) DESC LIMIT %(words)s),
having_it AS (
    SELECT lexeme, id FROM question, LATERAL (
        SELECT id FROM passages WHERE words @@ (
            '''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || ''''
        )::tsquery LIMIT %(most)s + 1) AS found),
telling AS (
    SELECT lexeme, ln(passages::float / count(*)) AS rarity FROM having_it, store
    GROUP BY lexeme, passages HAVING count(*) <= passages / 2)
SELECT id FROM having_it JOIN telling USING (lexeme)
GROUP BY id ORDER BY sum(rarity) DESC, id LIMIT %(limit)s
"""


def searchable(text: str) -> str:
    """Return the text as its words are looked for: spaced, in lower case, without accents."""
    text = unicodedata.normalize("NFD", spaced(storable(text[:MAX_CHARACTERS])).lower())
    bare = "".join(letter for letter in text if not "\u0300" <= letter <= "\u036f")
    return unicodedata.normalize("NFC", bare)


async def search(
    connection: Connection, model: str, text: str, vector: Vector, limit: int
) -> list[Hit]:
    """Return the best passages of the one state that the connection's transaction sees."""
    now = await label(connection)
    if not now.filled:
        return []
    check(now, model, len(vector))
    candidates = max(CANDIDATES, limit)
    near = await _by_vector(connection, vector, candidates)
    best = fuse(near, await _by_words(connection, text, candidates))[:limit]
    return await _hits(connection, best)


def nearest(dimension: int, *, exact: bool = False) -> sql.Composed:
    """Return the query for the ids nearest to a vector, whose last parameter is their number."""
    type_ = sql.SQL(indexed(dimension) or "vector")
    order = sql.SQL("vector::{0} <#> %b::{0}").format(type_)
    if exact:  # by an expression that no index is on
        order = sql.SQL("({}) + 0").format(order)
    return sql.SQL("SELECT id FROM passages ORDER BY {} LIMIT %s").format(order)


async def _by_vector(connection: Connection, vector: Vector, limit: int) -> list[int]:
    """Return the ids of the nearest; if the index does not reach enough, of all there are."""
    found: list[int] = []
    for exact in (False, True):
        cursor = await connection.execute(
            nearest(len(vector), exact=exact), (np.asarray(vector, np.float32), limit)
        )
        found = [id_ for (id_,) in await cursor.fetchall()]
        if len(found) == limit:
            break
    return found


async def _by_words(connection: Connection, question: str, limit: int) -> list[int]:
    cursor = await connection.execute(
        BY_WORDS,
        {
            "question": searchable(question),
            "words": MAX_WORDS,
            "most": MAX_HAVING,
            "limit": limit,
        },
    )
    return [id_ for (id_,) in await cursor.fetchall()]


async def _hits(connection: Connection, best: Sequence[tuple[int, float]]) -> list[Hit]:
    cursor = await connection.execute(
        "SELECT id, document_id, position, text, title, url FROM passages WHERE id = ANY(%s)",
        ([id_ for id_, _ in best],),
    )
    scores = dict(best)
    hits = [
        Hit(document_id, position, text, title, url, scores[id_])
        for id_, document_id, position, text, title, url in await cursor.fetchall()
    ]
    return sorted(hits, key=lambda hit: -hit.score)
