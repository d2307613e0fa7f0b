"""Taking up again what an earlier process left unfinished."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import structlog

from app.jobs.protocol import JobQueue, JobQueueError
from app.stores.protocol import DocumentStore, StoreError

PAUSE = 5.0
"""Seconds until the next try, where nobody said."""

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


@asynccontextmanager
async def resuming(store: DocumentStore, jobs: JobQueue) -> AsyncIterator[None]:
    """Resume in the background, for as long as the context is open."""
    async with asyncio.TaskGroup() as tasks:
        resumption = tasks.create_task(resume(store, jobs))
        yield
        resumption.cancel()


async def resume(store: DocumentStore, jobs: JobQueue) -> None:
    """Queue every document that is not finished; wait for the store and the queue as need be.

    One that is being worked on elsewhere is queued too: nobody can tell it from one whose worker
    died, and doing it twice does no harm.
    """
    unfinished = await _patiently(store.unfinished)
    for document_id in unfinished:
        await _patiently(partial(jobs.publish, document_id))
    if unfinished:
        log.info("documents resumed", documents=len(unfinished))


async def _patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    while True:
        try:
            return await call()
        except (JobQueueError, StoreError) as error:
            log.warning("documents wait to be resumed", error=error.type, detail=str(error))
            await asyncio.sleep(error.retry_after or PAUSE)
