"""How PostgreSQL finds passages: by an index of vectors that is really used, and by words."""

from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

from app.stores.pgvector import PgvectorStore
from app.stores.pgvector_schema import indexed
from app.stores.pgvector_search import MAX_CHARACTERS, nearest, searchable
from app.stores.protocol import DocumentStore, Passage, Vector
from tests.stores.contract import (
    DIMENSION,
    MODEL,
    OpenStore,
    axis,
    passages,
    store_passages,
    submit,
    vector,
)
from tests.stores.on_pgvector import MIGRATED, PostgresServer

pytestmark = pytest.mark.parametrize("engine", ["pgvector"], indirect=True)

INDEX = "SELECT indexdef FROM pg_indexes WHERE indexname = 'passages_by_vector'"


def directions(count: int, dimension: int = DIMENSION) -> list[Vector]:
    """Return random vectors of length 1."""
    rows = np.random.default_rng(1).standard_normal((count, dimension)).astype(np.float32)
    return list(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def plan(server: PostgresServer) -> str:
    """Return how PostgreSQL goes about a search by a vector."""
    with psycopg.connect(server.address(MIGRATED)) as connection:
        register_vector(connection)
        connection.execute("ANALYZE passages")
        query = psycopg.sql.SQL("EXPLAIN {}").format(nearest(DIMENSION))
        rows = connection.execute(query, (axis(0), 10)).fetchall()
    return "\n".join(row for (row,) in rows)


async def test_index_is_used(store: DocumentStore, server: PostgresServer) -> None:
    """Among many passages the nearest are looked up in the HNSW index, which finds them.

    As many are found as were asked for, also more than the index looks at at first.
    """
    near = directions(3000)
    await store_passages(store, "d", [Passage(f"{n}", row) for n, row in enumerate(near)])
    assert "Index Scan using passages_by_vector" in plan(server)
    for question in directions(20):
        hits = await store.search("question", question, limit=10)
        best = np.argsort(-np.stack(near) @ question)[:10]
        assert len({hit.position for hit in hits} & set(best.tolist())) >= 9
    assert len(await store.search("question", axis(0), limit=700)) == 700


async def test_what_the_index_does_not_reach(server: PostgresServer, store: DocumentStore) -> None:
    """Where the index gives up early the rest is found all the same."""
    options = "-cenable_seqscan%3Doff%20-chnsw.max_scan_tuples%3D1"
    address = f"{server.address(MIGRATED)}&options={options}"
    async with PgvectorStore(address, model=MODEL) as hasty:
        await store_passages(hasty, "d", [Passage("text", row) for row in directions(500)])
        assert len(await hasty.search("question", axis(0), limit=400)) == 400


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [(2000, "vector(2000)"), (2001, "halfvec(2001)"), (4000, "halfvec(4000)"), (4001, None)],
)
async def test_many_dimensions(
    store: DocumentStore, server: PostgresServer, dimension: int, expected: str | None
) -> None:
    """Up to 2,000 dimensions are indexed, up to 4,000 as half; more are compared one by one."""
    assert indexed(dimension) == expected
    near = directions(120, dimension)
    await store_passages(store, "d", [Passage(f"{n}", row) for n, row in enumerate(near)])
    for n in (3, 77):
        hits = await store.search("question", near[n], limit=1)
        assert [hit.text for hit in hits] == [f"{n}"]
    definition = server.run(INDEX, database=MIGRATED)
    assert len(definition) == (expected is not None)
    assert str(expected) in f"{definition or None}"


async def test_index_follows_the_dimension(open_store: OpenStore, server: PostgresServer) -> None:
    """A store that was emptied may be filled with vectors of another dimension, indexed again."""
    async with open_store() as store, open_store() as other:
        for dimension in (8, 3, 2500, 5000, 8):
            await store_passages(store, "d", passages("a", at=axis(0, dimension=dimension)))
            hits = await other.search("a", axis(0, dimension=dimension), limit=5)
            assert [hit.text for hit in hits] == ["a"]
            definitions = server.run(INDEX, database=MIGRATED)
            assert [str(indexed(dimension)) in row for (row,) in definitions] == [
                True for _ in definitions
            ]
            await store.delete("d")


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("我们的退款政策是三十天。", "退款多久"),
        ("返品は三十日以内にお願いします。", "返品したい"),
        ("환불은 삼십일 이내에 가능합니다.", "환불을 원해요"),
        ("Ein Café in Zürich", "ZURICH CAFE"),
        ("She indexed the documents", "indexing a document"),
        ("Модель QX_7731", "МОДЕЛЬ"),
        ("It's at https://example.com/c?d='e'", "https://example.com/c?d='e'"),
    ],
)
async def test_words_of_many_languages(store: DocumentStore, text: str, question: str) -> None:
    """Words are found whatever their case, accents or English endings, and without spaces too."""
    await store_passages(store, "near", passages(*"αβγδεζ" * 10))
    await store_passages(store, "far", passages(text, at=axis(1)))
    hits = await store.search(question, axis(0), limit=2)
    assert text in [hit.text for hit in hits]


async def test_words_of_most_passages_count_for_nothing(store: DocumentStore) -> None:
    """A passage is not preferred for words that more than half of the passages have."""
    near = [f"Blue is number {n} of many" for n in range(7)]
    far = [f"blue blue many many {n}" for n in range(3)]
    await store_passages(store, "far", passages(*far, at=axis(1)))
    await store_passages(store, "near", passages(*near))
    hits = await store.search("How many are blue?", axis(0), limit=7)
    assert {hit.text for hit in hits} == set(near)


async def test_best_by_words_first(store: DocumentStore) -> None:
    """Of passages with words of the question the one with the rarest comes first."""
    near = {"none": 0.1, "alpha beta": 0.2, "rare": 0.3, "alpha": 0.4, "last": 0.5}
    parts = [Passage(text, vector(1, near[text])) for text in sorted(near)]
    parts += [Passage("other", axis(1))] * 10
    await store_passages(store, "d", parts)
    hits = await store.search("alpha, beta or rare?", axis(0), limit=3)
    assert [hit.text for hit in hits] == ["alpha beta", "rare", "alpha"]


async def test_very_long_passage(store: DocumentStore) -> None:
    """A passage of a million different words is stored, and found by the first of them."""
    text = " ".join(f"w{n}x" for n in range(1_000_000))
    await submit(store)
    assert await store.upsert("d", "1", passages(text, at=axis(1))) is True
    await store_passages(store, "near", passages(*"αβγδεζ" * 10))
    hits = await store.search("w77x", axis(0), limit=2)
    assert "d" in [hit.document_id for hit in hits]


def test_searchable(engine: Any) -> None:
    """Words come in lower case and without accents, Chinese in pairs, of a long text the first."""
    assert searchable("Ça VA, Ζεύς Ёлка") == "ca va, ζευς елка"
    assert searchable("退款政策 が 한국") == " 退款 款政 政策   が   한국 "
    assert len(searchable("x " * MAX_CHARACTERS)) == MAX_CHARACTERS


async def test_nothing_is_locked(store: DocumentStore, server: PostgresServer) -> None:
    """While one process stores passages, another may search, and store those of other documents."""
    assert isinstance(store, PgvectorStore)
    await store_passages(store, "d", passages("a"))
    await submit(store, "e")
    with psycopg.connect(server.address(MIGRATED)) as other:
        other.execute("SELECT FROM label FOR SHARE")
        other.execute("SELECT FROM documents WHERE id = 'd' FOR UPDATE")
        assert await store.upsert("e", "1", passages("b")) is True
        assert len(await store.search("question", axis(0), limit=5)) == 2
