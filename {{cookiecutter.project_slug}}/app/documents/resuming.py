"""Taking up again what an earlier process left unfinished.

Guarantees: however often and however many workers start, what waits on a broker already is not
queued once more. What was lost is queued when nothing waits there any more: a busy broker's first
quiet moment may be a while away, and handing a document in again queues it at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from app.jobs.protocol import JobQueue
from app.stores.protocol import DocumentStore

PAUSE = 5.0
"""Seconds until the next try, where nobody said."""
LOOK_AGAIN = 60.0
"""Seconds until the queue is asked again whether anything waits there."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def resuming(store: DocumentStore, jobs: JobQueue) -> AsyncIterator[None]:
    """Resume in the background, for as long as the context is open."""
    async with asyncio.TaskGroup() as tasks:
        resumption = tasks.create_task(resume(store, jobs))
        yield
        resumption.cancel()


async def resume(store: DocumentStore, jobs: JobQueue, *, look_again: float = LOOK_AGAIN) -> None:
    """Queue every document that is not finished, once; wait until store and queue let it.

    One that is being worked on elsewhere at that moment is queued too: nobody can tell it from one
    whose worker died, and doing it twice does no harm.
    """
    while True:
        try:
            may = await jobs.may_resume()
            if may:
                await _resume_all(store, jobs)
        except Exception as error:  # noqa: BLE001 -- it must not end what it runs beside
            log.warning("documents wait to be resumed", detail=f"{type(error).__name__}: {error}")
            await asyncio.sleep(getattr(error, "retry_after", None) or PAUSE)
        else:
            if may:
                return
            await asyncio.sleep(look_again)


async def _resume_all(store: DocumentStore, jobs: JobQueue) -> None:
    unfinished = await store.unfinished()
    for document_id in unfinished:
        await jobs.publish(document_id)
    if unfinished:
        log.info("documents resumed", documents=len(unfinished))
