"""What an earlier process left unfinished is queued again."""

import asyncio

from app.documents.resuming import resume, resuming
from app.documents.submission import Submission
from app.jobs.protocol import JobQueueUnavailableError
from app.stores.protocol import StoreUnavailableError
from tests.documents.parts import Documents, Noted


class DefectError(Exception):
    """Nothing that a store may raise."""

    retry_after = 0.001


class AwayAtFirst(Documents):
    """A store that cannot be reached at the first call."""

    away = True
    error: Exception = StoreUnavailableError("away", retry_after=0.001)

    async def unfinished(self) -> list[str]:
        """Fail once."""
        away, self.away = self.away, False
        if away:
            raise self.error
        return await super().unfinished()


async def test_unfinished_documents_are_queued() -> None:
    """Those that wait and those that were begun are queued, those that are done are not."""
    store, jobs = Documents(), Noted()
    waits, begun, done = (Submission.text(text).document for text in "abc")
    for document in (waits, begun, done):
        await store.submit(document, b"")
    await store.begin(begun.id)
    await store.upsert(done.id, done.revision, [])
    await resume(store, jobs)
    assert jobs.jobs == [(waits.id, 0), (begun.id, 0)]


async def test_store_and_queue_are_waited_for() -> None:
    """A store or a queue that is away at the start is asked again."""
    store, jobs = AwayAtFirst(), Noted(JobQueueUnavailableError("full", retry_after=0.001))
    await store.submit(Submission.text("a").document, b"")
    await resume(store, jobs)
    assert len(jobs.jobs) == 1


class Busy(Noted):
    """A queue in which something waits the first few times."""

    looks = 3

    async def may_resume(self) -> bool:
        """Say so, once nothing waits any more."""
        self.looks -= 1
        return self.looks <= 0


async def test_busy_queue_is_waited_for() -> None:
    """Nothing is queued before the queue allows it; it is asked until it does, and no more."""
    store, jobs = Documents(), Busy()
    document = Submission.text("a").document
    await store.submit(document, b"")
    await resume(store, jobs, look_again=0.001)
    assert (jobs.jobs, jobs.looks) == ([(document.id, 0)], 0)


async def test_defect_does_not_end_the_service() -> None:
    """Whatever resuming meets, what runs beside it goes on, and it tries again."""
    store, jobs = AwayAtFirst(), Noted()
    store.error = DefectError()
    await store.submit(Submission.text("a").document, b"")
    async with asyncio.timeout(10), resuming(store, jobs):
        await jobs.published.wait()


async def test_resuming_ends_with_its_block() -> None:
    """A service that stops while it still waits for the queue does not wait any longer."""
    store, jobs = Documents(), Noted(JobQueueUnavailableError("full", retry_after=3600))
    await store.submit(Submission.text("a").document, b"")
    async with asyncio.timeout(10), resuming(store, jobs):
        while jobs.errors:  # noqa: ASYNC110 -- until it was refused
            await asyncio.sleep(0)
    assert jobs.jobs == []
