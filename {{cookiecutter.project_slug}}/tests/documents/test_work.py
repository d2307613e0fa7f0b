"""How a job ends: the document is ready, never will be, or is to be tried again."""

import pytest

from app.documents.submission import Submission
from app.documents.work import MOST_ATTEMPTS, DocumentWork, no_pages
from app.embeddings.protocol import EmbeddingError
from app.ingestion.decoding import ExtractionError
from app.jobs.protocol import RetryLater
from app.llm.protocol import ProviderRateLimitedError
from app.stores.protocol import EmbeddingMismatchError
from tests.documents.parts import Documents, Ones, Words


async def queued(store: Documents, submission: Submission) -> str:
    """Queue a document; return its id."""
    document = submission.document
    await store.submit(document, submission.content.pack())
    return document.id


async def test_document_becomes_its_passages() -> None:
    """A document that was worked on is ready, with a passage and a vector for each part."""
    store = Documents()
    document_id = await queued(store, Submission.file(b"one\ntwo", "text/plain", "a.txt"))
    await DocumentWork(store, Ones(), Words(), no_pages).process(document_id)
    document = store.documents[document_id]
    assert (document.state, document.title, document.passages) == ("ready", "a.txt", 2)
    assert [passage.text for passage in store.passages[document_id]] == ["one", "two"]
    assert all(passage.vector.tolist() == [1] for passage in store.passages[document_id])


async def test_job_that_is_done_is_not_done_again() -> None:
    """A job that is delivered twice, or for a document that is gone, does nothing."""
    store = Documents()
    work = DocumentWork(store, Ones(), Words(), no_pages)
    document_id = await queued(store, Submission.text("one"))
    await work.process(document_id)
    before = store.documents[document_id]
    await work.process(document_id)
    await work.process("nobody's")
    assert store.documents == {document_id: before}


async def test_page_is_fetched_as_markdown() -> None:
    """A page is fetched when the job is done, and read as Markdown."""

    async def fetch(url: str) -> str:
        return f"text of {url}"

    store = Documents()
    document_id = await queued(store, Submission.page("https://example.org/"))
    await DocumentWork(store, Ones(), Words(), fetch).process(document_id)
    assert store.documents[document_id].title == "found in text/markdown"
    assert store.passages[document_id][0].text == "text of https://example.org/"


async def test_what_was_begun_too_often_fails() -> None:
    """A document whose work never came to an end is given up; handed in again it has new tries."""
    store = Documents()
    work = DocumentWork(store, Ones(), Words(), no_pages)
    document_id = await queued(store, Submission.text("one"))
    for _ in range(MOST_ATTEMPTS):
        await store.begin(document_id)
    await work.process(document_id)
    document = store.documents[document_id]
    assert (document.state, document.error) == (
        "failed", f"given up: begun {MOST_ATTEMPTS} times and never finished",
    )  # fmt: skip
    await queued(store, Submission.text("one"))
    for _ in range(MOST_ATTEMPTS - 1):
        await store.begin(document_id)
    await work.process(document_id)
    assert store.documents[document_id].state == "ready"


async def test_what_cannot_heal_fails_at_once() -> None:
    """What cannot be read fails with the reason, and is not tried again."""
    store = Documents()
    document_id = await queued(store, Submission.text("unreadable"))
    await DocumentWork(store, Ones(), Words(), no_pages).process(document_id)
    document = store.documents[document_id]
    assert (document.state, document.error) == ("failed", "nobody can read this")


async def test_page_fails_where_none_are_read() -> None:
    """A page that waits in a service that reads none any more fails, and says so."""
    store = Documents()
    document_id = await queued(store, Submission.page("https://example.org/"))
    await DocumentWork(store, Ones(), Words(), no_pages).process(document_id)
    assert (
        store.documents[document_id].error
        == "this service reads no pages: it has no key for that, or is made without"
    )


async def test_what_can_heal_is_tried_again() -> None:
    """Any other failure is the queue's to repeat; where somebody said when, at that time."""
    busy = ProviderRateLimitedError("too many", retry_after=7)
    store = Documents()
    work = DocumentWork(store, Ones(busy, EmbeddingError("odd")), Words(), no_pages)
    document_id = await queued(store, Submission.text("one"))
    with pytest.raises(RetryLater) as later:
        await work.process(document_id)
    assert later.value.after == 7
    with pytest.raises(EmbeddingError):
        await work.process(document_id)
    assert store.documents[document_id].state == "processing"
    await work.process(document_id)
    assert store.documents[document_id].state == "ready"


async def test_giving_up_tells_no_secrets() -> None:
    """A document that was given up says what kind of error it met, and nothing more."""
    store = Documents()
    busy = ProviderRateLimitedError("at secret-host", retry_after=7)
    work = DocumentWork(store, Ones(busy), Words(), no_pages)
    document_id = await queued(store, Submission.text("one"))
    with pytest.raises(RetryLater) as later:
        await work.process(document_id)
    await work.give_up(document_id, f"RetryLater: {later.value}")
    document = store.documents[document_id]
    assert document.state == "failed"
    assert document.error == "given up: ProviderRateLimitedError"
    await work.give_up("nobody's", "X")


async def test_giving_up_spares_what_was_handed_in_meanwhile() -> None:
    """A new revision that nobody has begun is not given up for what the old one met."""
    store = Documents()
    work = DocumentWork(store, Ones(), Words(), no_pages)
    document_id = await queued(store, Submission.text("one"))
    await store.begin(document_id)
    await queued(store, Submission.text("one", title="now with a title"))
    await work.give_up(document_id, "EmbeddingError: odd")
    assert store.documents[document_id].state == "queued"
    await work.process(document_id)
    assert store.documents[document_id].state == "ready"


async def test_mistake_of_the_operator_costs_no_document() -> None:
    """What fails for a wrong model or key stays unfinished: it is resumed once that is mended."""
    store = Documents()
    work = DocumentWork(store, Ones(EmbeddingMismatchError("other")), Words(), no_pages)
    document_id = await queued(store, Submission.text("one"))
    with pytest.raises(EmbeddingMismatchError):
        await work.process(document_id)
    await work.give_up(document_id, "EmbeddingMismatchError: other")
    assert await store.unfinished() == [document_id]
    await work.process(document_id)
    assert store.documents[document_id].state == "ready"


async def test_overtaken_work_changes_nothing() -> None:
    """A document that is replaced while it is worked on keeps waiting for its own work."""
    store = Documents()

    async def fetch(_: str) -> str:
        await store.submit(Submission.page("https://example.org/", "New").document, b"{}\n")
        raise ExtractionError("gone")

    document_id = await queued(store, Submission.page("https://example.org/"))
    await DocumentWork(store, Ones(), Words(), fetch).process(document_id)
    assert store.documents[document_id].state == "queued"
