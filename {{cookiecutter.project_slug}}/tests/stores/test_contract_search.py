"""What a search finds in any store, whatever the question and the text are made of."""

import pytest

from app.stores.protocol import Document, DocumentStore, Passage
from tests.stores.contract import Engine, axis, everything, found, passages, store_passages, vector

UNSAFE = "a\0b\ud800c"
SAFE = "a\ufffdb\ufffdc"


async def test_nearest_first(store: DocumentStore) -> None:
    """Where words say nothing the order is that of the vectors, and the scores fall."""
    near = {"one": vector(1, 0.1), "two": vector(1, 0.5), "three": vector(1, 2), "four": axis(1)}
    parts = [Passage(text, near[text]) for text in ("three", "one", "four", "two")]
    await store_passages(store, "d", parts[:2])
    await store_passages(store, "e", parts[2:])
    hits = await store.search("question", axis(0), limit=4)
    assert [hit.text for hit in hits] == ["one", "two", "three", "four"]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


async def test_limit(store: DocumentStore) -> None:
    """No more than `limit` are found, and those are the best."""
    await store_passages(store, "d", [Passage(f"text {n}", vector(1, n)) for n in (3, 0, 4, 1, 2)])
    for limit in (0, 1, 3, 5):
        hits = await store.search("question", axis(0), limit=limit)
        assert [hit.text for hit in hits] == [f"text {n}" for n in range(5)][:limit]
    assert len(await store.search("question", axis(0), limit=1000)) == 5


async def test_the_gone_take_no_place(store: DocumentStore) -> None:
    """However many nearer passages were replaced or deleted, `limit` of the others are found."""
    await store_passages(store, "far", passages(*"abcdefgh", at=vector(1, 1)))
    for revision in range(3):
        near = passages(*[f"near {n}" for n in range(100)])
        await store_passages(store, "replaced", near, revision=f"{revision}")
        await store_passages(store, "deleted", near, revision=f"{revision}")
        await store.search("question", axis(0), limit=5)
        await store_passages(store, "replaced", passages("new"), revision=f"{revision} new")
        await store.delete("deleted")
        hits = await store.search("question", axis(0), limit=5)
        assert hits[0].text == "new"
        assert len({hit.text for hit in hits} & set("abcdefgh")) == 4


async def test_words_count_too(store: DocumentStore, engine: Engine) -> None:
    """A rare word in question and passage finds it among many that are nearer by their vectors."""
    if not engine.FINDS_BY_WORDS:
        pytest.skip("this store finds by vectors alone")
    near = [Passage(f"Something nearer, number {n}", vector(1, 0.01 * n)) for n in range(40)]
    await store_passages(store, "near", near)
    await store_passages(store, "far", [Passage("The error code is QX-7731.", axis(1))])
    hits = await store.search("What does QX-7731 mean?", axis(0), limit=5)
    assert "The error code is QX-7731." in [hit.text for hit in hits]
    assert len(hits) == 5


async def test_words_of_the_deleted_are_forgotten(store: DocumentStore) -> None:
    """Neither a deleted nor a replaced passage is found by its words."""
    await store_passages(store, "d", passages("zebra"))
    await store_passages(store, "d", passages("horse"), revision="2")
    await store_passages(store, "e", passages("zebra"))
    await store.delete("e")
    hits = await store.search("zebra", axis(0), limit=10)
    assert [hit.text for hit in hits] == ["horse"]


@pytest.mark.parametrize(
    "question",
    [
        "",
        " \t\n",
        '"',
        '""',
        "'",
        "'; DROP TABLE passages; --",
        "\\",
        "*",
        "^a",
        "-a",
        "NOT",
        "a AND",
        "OR",
        "a OR (b",
        "NEAR(a b, 3)",
        "NEAR(",
        "text : a",
        "{text title}: a",
        "a & | ! b",
        "a:* <-> !",
        "%_%",
        "a+b",
        "___",
        "_ ² ½ ª x_y _a",
        "\0",
        "\ud800",
        "😀",
        "日本",
        "…—«»",
        "word " * 5000,
        "w" * 50_000,
        " ".join(f"w{n}" for n in range(5000)),
    ],
    ids=lambda question: repr(question[:20]),
)
async def test_any_question_is_harmless(store: DocumentStore, question: str) -> None:
    """A question is words, never a query's syntax; one without words is asked by its vector."""
    await store_passages(store, "d", passages("a b text word"))
    assert [hit.text for hit in await store.search(question, axis(0), limit=3)] == ["a b text word"]


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, Привет, مرحبا, שלום, नमस्ते",
        "日本語のテキスト、中文文本。한국어",
        "👩‍👩‍👧‍👦 \U0001f600 \U0010ffff",
        "e\u0301 is not \u00e9",
        "quotes ' \" ` and \\ backslash, %s {} $1 :x ?",
        " leading, trailing and \r\n\t\x01\x7f\u2028 controls ",
        "",
        "x" * 200_000,
    ],
    ids=lambda text: repr(text[:12]),
)
async def test_text_comes_back_as_it_was(store: DocumentStore, text: str) -> None:
    """Whatever a text is made of, it is kept to the character: passage, title, metadata."""
    metadata = {"text": text, text[:99] or "k": [text]}
    await store.submit(Document("d", "1", text, metadata=metadata), text.encode())
    await store.upsert("d", "1", passages(text))
    document = await store.document("d")
    assert document is not None
    assert (document.title, document.metadata) == (text, metadata)
    assert [(hit.text, hit.title) for hit in await everything(store)] == [(text, text)]


async def test_what_databases_refuse_is_replaced(store: DocumentStore) -> None:
    """U+0000 and lone surrogates become U+FFFD wherever they are; NaN becomes null."""
    metadata = {UNSAFE: [UNSAFE, {"deep": UNSAFE}], "nan": float("nan")}
    await store.submit(
        Document(UNSAFE, UNSAFE, UNSAFE, url=UNSAFE, metadata=metadata), UNSAFE[:3].encode()
    )
    begun = await store.begin(UNSAFE)
    assert begun is not None
    assert begun[1] == b"a\0b"
    assert await store.upsert(UNSAFE, UNSAFE, passages(UNSAFE)) is True
    stored = await store.document(UNSAFE)
    assert stored == Document(
        SAFE,
        SAFE,
        SAFE,
        url=SAFE,
        metadata={SAFE: [SAFE, {"deep": SAFE}], "nan": None},
        state="ready",
        passages=1,
        attempts=1,
    )
    hits = await everything(store)
    assert [(hit.document_id, hit.text, hit.title, hit.url) for hit in hits] == [(SAFE,) * 4]
    assert await store.delete(UNSAFE) is True


async def test_unstorable_title_and_error(store: DocumentStore) -> None:
    """A title found while reading and an error are no exceptions."""
    await store.submit(Document("d", "1", ""), b"")
    await store.fail("d", "1", UNSAFE)
    document = await store.document("d")
    assert document is not None
    assert document.error == SAFE
    await store.upsert("d", "1", passages("a"), title=UNSAFE)
    assert [hit.title for hit in await everything(store)] == [SAFE]


async def test_unstorable_id_is_no_error(store: DocumentStore) -> None:
    """There is just no document with an id that cannot be stored."""
    assert await store.document(UNSAFE) is None
    assert await store.begin(UNSAFE) is None
    assert await store.delete(UNSAFE) is False
    assert await store.upsert(UNSAFE, "1", []) is False


async def test_many_passages(store: DocumentStore) -> None:
    """A document of a thousand passages is stored whole, and replaced whole."""
    await store_passages(store, "d", passages(*[f"number {n}" for n in range(1000)]))
    assert await store.count() == 1000
    document = await store.document("d")
    assert document is not None
    assert document.passages == 1000
    assert len(await store.search("number", axis(0), limit=100)) == 100
    await store_passages(store, "d", passages("one"), revision="2")
    assert await found(store) == {"one"}
