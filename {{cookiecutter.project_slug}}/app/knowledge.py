"""What the service knows: documents, who works on them, and the search through all sources."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

import httpx
import structlog

from app.concurrency.limiter import ConcurrencyLimiter
from app.documents.library import Library
from app.documents.resuming import resuming  # optional: job_queue=none
from app.jobs.celery import CeleryQueue  # optional: job_queue=celery
from app.jobs.in_process import InProcessQueue  # optional: job_queue=none
from app.jobs.protocol import JobQueue
from app.jobs.taskiq import TaskiqQueue  # optional: job_queue=taskiq
from app.retrieval.gather import Retriever
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.workshop import open_workshop

log = structlog.get_logger(__name__)

OpenQueue = AbstractAsyncContextManager[JobQueue]
"""A queue as long as it is open."""

UPLOADS = 8
"""Documents that are taken in at once, each held in memory several times over; ..."""
WAITING_UPLOADS = 64
"""... more may wait, ..."""
UPLOAD_WAIT = 30.0
"""... for so many seconds."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The documents, and the search through them and all other sources."""

    library: Library
    retriever: Retriever
    uploads: ConcurrencyLimiter


async def open_knowledge(
    settings: Settings, client: httpx.AsyncClient, stack: AsyncExitStack, metrics: Metrics
) -> Knowledge:
    """Open everything in order; `stack` closes it."""
    workshop = await open_workshop(settings, client, stack)

    def degraded(source: str, error: Exception) -> None:
        metrics.count_degraded(source)
        log.warning("source missing", source=source, detail=f"{type(error).__name__}: {error}")

    retriever = Retriever(
        workshop.sources,
        timeout=settings.retrieval_timeout,
        limit=settings.retrieval_passages,
        on_degraded=degraded,
    )
    await stack.enter_async_context(retriever)
    queue: OpenQueue
    broker = settings.broker_url.get_secret_value()  # optional: job_queue
    queue = CeleryQueue(broker)  # optional: job_queue=celery
    queue = TaskiqQueue(broker)  # optional: job_queue=taskiq
    at_once = settings.ingestion_concurrency  # optional: job_queue=none
    queue = InProcessQueue(workshop.work, concurrency=at_once)  # optional: job_queue=none
    jobs = await stack.enter_async_context(queue)
    await stack.enter_async_context(resuming(workshop.store, jobs))  # optional: job_queue=none
    uploads = ConcurrencyLimiter(UPLOADS, max_queue=WAITING_UPLOADS, queue_timeout=UPLOAD_WAIT)
    return Knowledge(Library(workshop.store, jobs), retriever, uploads)
