"""The way of a document through any store: submitted, begun, stored or given up, deleted."""

import asyncio

import pytest

from app.stores.protocol import Document, DocumentStore, Passage
from tests.stores.contract import (
    LONG,
    OpenStore,
    axis,
    everything,
    found,
    passages,
    state,
    store_passages,
    submit,
)

NEW = Document(
    "id-1",
    "revision-1",
    "A title",
    url="https://example.com/a?b=c#d",
    metadata={"tags": ["a", "ü"], "deep": {"n": 1.5, "none": None, "yes": True}},
)


async def test_submitted_document_is_queued(store: DocumentStore) -> None:
    """What was submitted is queued as it was, without passages or attempts."""
    await store.submit(NEW, b"content")
    assert await store.document("id-1") == NEW


async def test_progress_is_the_stores_own(store: DocumentStore) -> None:
    """Whatever a submitted document says of its progress, it is at its beginning."""
    await store.submit(
        Document("d", "1", "t", state="ready", passages=7, attempts=3, error="old"), b""
    )
    assert await store.document("d") == Document("d", "1", "t")


async def test_empty_store_has_nothing(store: DocumentStore) -> None:
    """In an empty store nothing is found, counted, begun, stored, deleted or failed."""
    assert await store.search("a question", axis(0), limit=5) == []
    assert await store.count() == 0
    assert await store.unfinished() == []
    assert await store.document("d") is None
    assert await store.begin("d") is None
    assert await store.delete("d") is False
    assert await store.upsert("d", "1", passages("a")) is False
    await store.fail("d", "1", "error")
    assert await store.document("d") is None
    assert await store.count() == 0


async def test_begin_hands_out_the_content(store: DocumentStore) -> None:
    """Work on a document begins with its content, is counted, and shows as processing."""
    await store.submit(NEW, b"\x00content\xff")
    begun = await store.begin("id-1")
    assert begun is not None
    document, content = begun
    assert content == b"\x00content\xff"
    assert (document.state, document.attempts) == ("processing", 1)
    assert document == await store.document("id-1")
    assert (document.title, document.url, document.metadata) == (NEW.title, NEW.url, NEW.metadata)


async def test_begin_again(store: DocumentStore) -> None:
    """Whoever worked on a document may be dead: it is handed out again, and counted."""
    await submit(store)
    for attempt in (1, 2, 3):
        begun = await store.begin("d")
        assert begun is not None
        assert (begun[0].attempts, begun[1]) == (attempt, b"content")


async def test_every_attempt_is_counted(open_store: OpenStore) -> None:
    """Attempts that begin at the same moment, in two processes, are each counted once."""
    async with asyncio.timeout(LONG), open_store() as one, open_store() as other:
        await submit(one)
        begun = await asyncio.gather(*[store.begin("d") for store in (one, other) * 5])
        assert sorted(some[0].attempts for some in begun if some) == list(range(1, 11))


async def test_large_content(store: DocumentStore) -> None:
    """Content of 20 MB goes through unharmed."""
    content = bytes(range(256)) * (20 * 4096)
    await store.submit(Document("d", "1", "large"), content)
    begun = await store.begin("d")
    assert begun is not None
    assert begun[1] == content


async def test_stored_document_is_ready(store: DocumentStore) -> None:
    """Once its passages are stored a document is ready, and there is nothing left to do."""
    await submit(store)
    await store.begin("d")
    assert await store.upsert("d", "1", passages("a", "b")) is True
    document = await store.document("d")
    assert document == Document("d", "1", "d", state="ready", passages=2, attempts=1)
    assert await store.begin("d") is None
    assert await store.unfinished() == []
    assert await store.count() == 2


async def test_stored_twice(store: DocumentStore) -> None:
    """A job that is done twice leaves the passages of one."""
    await store_passages(store, "d", passages("a", "b"))
    assert await store.upsert("d", "1", passages("a", "b")) is True
    assert sorted(hit.text for hit in await everything(store)) == ["a", "b"]
    assert await store.count() == 2


async def test_no_passages(store: DocumentStore) -> None:
    """A document without passages is ready too, and has no earlier ones left."""
    await store_passages(store, "d", passages("a"))
    await store_passages(store, "d", [], revision="2")
    assert await state(store) == "ready"
    assert await found(store) == set()
    assert await store.count() == 0


@pytest.mark.parametrize(("submitted", "shown"), [("", "Found"), ("Given", "Given")])
async def test_title_found_while_reading(store: DocumentStore, submitted: str, shown: str) -> None:
    """A title that was found while reading is for a document that has none."""
    await store.submit(Document("d", "1", submitted), b"")
    await store.upsert("d", "1", passages("a"), title="Found")
    document = await store.document("d")
    assert document is not None
    assert document.title == shown
    assert [hit.title for hit in await everything(store)] == [shown]


async def test_late_work_is_dropped(store: DocumentStore) -> None:
    """What arrives for an earlier revision changes nothing, be it success or failure."""
    await submit(store, revision="1")
    await submit(store, revision="2")
    before = await store.document("d")
    assert await store.upsert("d", "1", passages("late"), title="Late") is False
    await store.fail("d", "1", "late")
    assert await store.document("d") == before
    assert await found(store) == set()
    assert await store.upsert("d", "2", passages("new")) is True
    assert await store.upsert("d", "1", passages("late")) is False
    assert await found(store) == {"new"}


async def test_work_on_the_deleted_is_dropped(store: DocumentStore) -> None:
    """What arrives for a deleted document does not bring it back."""
    await submit(store)
    await store.begin("d")
    assert await store.delete("d") is True
    assert await store.upsert("d", "1", passages("late")) is False
    await store.fail("d", "1", "late")
    assert await store.document("d") is None
    assert await store.begin("d") is None
    assert await store.unfinished() == []
    assert await store.count() == 0


async def test_delete(store: DocumentStore) -> None:
    """A deleted document and its passages are gone, and no other; a second time it is not there."""
    await store_passages(store, "d", passages("a", "b"))
    await store_passages(store, "other", passages("c"))
    assert await store.delete("d") is True
    assert await store.document("d") is None
    assert await found(store) == {"c"}
    assert await store.count() == 1
    assert await store.delete("d") is False
    await submit(store)
    assert await store.document("d") == Document("d", "1", "d")


async def test_resubmission_keeps_the_old_findable(store: DocumentStore) -> None:
    """Until a new revision is stored the earlier passages are found, counted and cited as before.

    The title and URL of a hit are those of the revision that it is from.
    """
    await store.submit(Document("d", "1", "Old", url="http://old"), b"old")
    await store.begin("d")
    await store.upsert("d", "1", passages("old 1", "old 2"))

    await store.submit(Document("d", "2", "New", url="http://new"), b"new")
    document = await store.document("d")
    assert document == Document("d", "2", "New", url="http://new", passages=2)
    old = await everything(store)
    assert {(hit.text, hit.title, hit.url) for hit in old} == {
        ("old 1", "Old", "http://old"),
        ("old 2", "Old", "http://old"),
    }
    assert await store.count() == 2
    begun = await store.begin("d")
    assert begun is not None
    assert (begun[0].attempts, begun[0].passages, begun[1]) == (1, 2, b"new")

    await store.upsert("d", "2", passages("new"))
    assert [(hit.text, hit.title, hit.url) for hit in await everything(store)] == [
        ("new", "New", "http://new")
    ]
    assert await store.count() == 1


async def test_failed_document(store: DocumentStore) -> None:
    """A failed document says why; there is nothing left to do; earlier passages remain."""
    await store_passages(store, "d", passages("old"))
    await submit(store, revision="2")
    await store.begin("d")
    await store.fail("d", "2", "It is no PDF")
    document = await store.document("d")
    assert document == Document(
        "d", "2", "d", state="failed", passages=1, attempts=1, error="It is no PDF"
    )
    assert await store.begin("d") is None
    assert await store.unfinished() == []
    assert await found(store) == {"old"}


async def test_failed_document_submitted_again(store: DocumentStore) -> None:
    """A failed document that is submitted again, in the same revision, starts over."""
    await submit(store)
    await store.begin("d")
    await store.fail("d", "1", "error")
    await submit(store)
    assert await store.document("d") == Document("d", "1", "d")
    begun = await store.begin("d")
    assert begun is not None
    assert begun[1] == b"content"


async def test_success_after_failure(store: DocumentStore) -> None:
    """Of two workers on one revision, one that succeeds after the other gave up counts."""
    await submit(store)
    await store.fail("d", "1", "error")
    assert await store.upsert("d", "1", passages("a")) is True
    assert await store.document("d") == Document("d", "1", "d", state="ready", passages=1)


async def test_failure_after_success(store: DocumentStore) -> None:
    """Of two workers on one revision, one that fails after the other succeeded does not count."""
    await store_passages(store, "d", passages("a"))
    before = await store.document("d")
    await store.fail("d", "1", "error")
    assert await store.document("d") == before


async def test_unfinished_oldest_first(store: DocumentStore) -> None:
    """What is queued or processing is listed in the order in which it was submitted last."""
    for name in ("c", "a", "done", "b", "failed"):
        await submit(store, name)
    await store.upsert("done", "1", [])
    await store.fail("failed", "1", "error")
    await store.begin("b")
    assert await store.unfinished() == ["c", "a", "b"]
    await submit(store, "c", revision="2")
    await submit(store, "done", revision="2")
    assert await store.unfinished() == ["a", "b", "c", "done"]


async def test_positions_are_those_of_the_document(store: DocumentStore) -> None:
    """A hit says whose passage it is and which, counted from 0."""
    await store_passages(store, "d", [Passage(text, axis(0)) for text in "xyz"])
    await store_passages(store, "e", [Passage("w", axis(0))])
    hits = await everything(store)
    assert {(hit.document_id, hit.position, hit.text) for hit in hits} == {
        ("d", 0, "x"),
        ("d", 1, "y"),
        ("d", 2, "z"),
        ("e", 0, "w"),
    }
