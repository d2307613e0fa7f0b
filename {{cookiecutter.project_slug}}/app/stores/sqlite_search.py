"""Search in a SQLite store: by vectors and by words, the two rankings fused.

Each ranking brings its best CANDIDATES. Words are ranked by BM25, over the rarest words of the
question only: what most passages have tells none from another, and to rank all that have a common
word takes thirty times as long as to count them.

Needs `fusing`, `protocol`, `sqlite_matrix`, `sqlite_schema` and `sqlite_words` beside it.
"""

import json
import sqlite3
from collections.abc import Sequence

from .fusing import fuse
from .protocol import Hit, Vector
from .sqlite_matrix import Matrix
from .sqlite_schema import check, label
from .sqlite_words import distinct_words

CANDIDATES = 50
MAX_RANKED = 10_000
"""Rows that have the words, each counted for each: ranking so many takes 10 ms."""


def search(
    connection: sqlite3.Connection,
    matrix: Matrix,
    model: str,
    text: str,
    vector: Vector,
    limit: int,
) -> list[Hit]:
    """Return the best passages of the one state that the connection's transaction sees."""
    view = matrix.view(connection)  # the first to read, so it decides which state that is
    if not view.living:
        return []
    check(label(connection), model, len(vector))
    candidates = max(CANDIDATES, limit)
    near = view.nearest(vector, candidates)
    if view.dead:
        near = _living(connection, near)[:candidates]
    best = fuse(near, _by_words(connection, text, view.living, candidates))[:limit]
    return _hits(connection, best)


def _by_words(
    connection: sqlite3.Connection, question: str, passages: int, limit: int
) -> list[int]:
    words = telling(connection, distinct_words(question), most=passages // 2)
    if not words:
        return []
    ranked = connection.execute(
        "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?",
        (" OR ".join(map(_quoted, words)), limit),
    )
    return [id_ for (id_,) in ranked]


def telling(
    connection: sqlite3.Connection, words: Sequence[str], *, most: int, budget: int = MAX_RANKED
) -> list[str]:
    """Return the rarest of the words that at most `most` passages have.

    Of two or more, passages that have them are at most `budget` in all.
    """
    chosen: list[str] = []
    for having, word in sorted((_count(connection, word), word) for word in words):
        budget -= having
        if having > most or (chosen and budget < 0):
            break
        chosen.append(word)
    return chosen


def _count(connection: sqlite3.Connection, word: str) -> int:
    having: int = connection.execute(
        "SELECT count(*) FROM words WHERE words MATCH ?", (_quoted(word),)
    ).fetchone()[0]
    return having


def _quoted(word: str) -> str:
    """Return a query for the word; whatever is quoted is none of FTS5's operators."""
    return f'"{word}"'


def _living(connection: sqlite3.Connection, ids: Sequence[int]) -> list[int]:
    rows = connection.execute(
        "SELECT id FROM passages WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
    )
    living = {id_ for (id_,) in rows}
    return [id_ for id_ in ids if id_ in living]


def _hits(connection: sqlite3.Connection, best: Sequence[tuple[int, float]]) -> list[Hit]:
    rows = connection.execute(
        "SELECT id, document_id, position, text, title, url FROM passages "
        "WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([id_ for id_, _ in best]),),
    )
    scores = dict(best)
    hits = [
        Hit(document_id, position, text, title, url, scores[id_])
        for id_, document_id, position, text, title, url in rows
    ]
    return sorted(hits, key=lambda hit: -hit.score)
