"""Handing documents in: each is stored once and worked on once, unless it changed."""

import pytest

from app.documents.library import HANDED_IN, Library
from app.documents.submission import Submission
from app.errors import UnknownDocumentError
from app.jobs.protocol import JobQueueUnavailableError
from tests.documents.parts import Documents, Noted

TEXT = Submission.text("one")


async def test_new_document_is_stored_and_queued() -> None:
    """A new document is in the store before its job is in the queue."""
    store, jobs = Documents(), Noted()
    document, is_new = await Library(store, jobs).add(TEXT)
    assert is_new
    assert document.state == "queued"
    assert store.contents[document.id] == TEXT.content.pack()
    assert jobs.jobs == [(document.id, HANDED_IN)]


async def test_ready_document_is_left_alone() -> None:
    """The same document again is the one that is there."""
    store, jobs = Documents(), Noted()
    document, _ = await Library(store, jobs).add(TEXT)
    await store.upsert(document.id, document.revision, [])
    again, is_new = await Library(store, jobs).add(TEXT)
    assert not is_new
    assert (again.id, again.state) == (document.id, "ready")
    assert len(jobs.jobs) == 1


@pytest.mark.parametrize("submission", [Submission.text("one", "Title"), TEXT])
async def test_changed_or_failed_document_is_worked_on_anew(submission: Submission) -> None:
    """A document of another revision, or one that failed, is queued in place of the old one."""
    store, jobs = Documents(), Noted()
    document, _ = await Library(store, jobs).add(TEXT)
    await store.fail(document.id, document.revision, "no")
    again, is_new = await Library(store, jobs).add(submission)
    assert is_new
    assert (again.id, again.state, len(jobs.jobs)) == (document.id, "queued", 2)


async def test_lost_job_is_mended_by_handing_in_again() -> None:
    """If the queue was away the document waits in the store, and the next try finds the queue."""
    store, jobs = Documents(), Noted(JobQueueUnavailableError("away"))
    with pytest.raises(JobQueueUnavailableError):
        await Library(store, jobs).add(TEXT)
    document, is_new = await Library(store, jobs).add(TEXT)
    assert (is_new, document.state) == (False, "queued")
    assert [job for job, _ in jobs.jobs] == [document.id]


async def test_unknown_document() -> None:
    """What is not there can neither be looked up nor taken out."""
    library = Library(Documents(), Noted())
    with pytest.raises(UnknownDocumentError, match="abc"):
        await library.find("abc")
    with pytest.raises(UnknownDocumentError, match="abc"):
        await library.remove("abc")
    document, _ = await library.add(TEXT)
    assert await library.find(document.id) == document
    await library.remove(document.id)
    with pytest.raises(UnknownDocumentError):
        await library.find(document.id)
