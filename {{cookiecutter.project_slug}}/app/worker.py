"""Work on documents in a process of its own: `python -m app.worker`, or `make worker`.

Any number may run. First it queues again what the store has as unfinished, as the job of it may be
lost. On SIGTERM it takes no more, finishes what it has, and ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from app.documents.resuming import resume
from app.documents.work import DocumentWork
from app.jobs.celery import CeleryQueue  # optional: job_queue=celery
from app.jobs.celery_worker import run_celery_worker  # optional: job_queue=celery
from app.jobs.rabbitmq import RabbitMQQueue
from app.jobs.taskiq import TaskiqQueue  # optional: job_queue=taskiq
from app.jobs.taskiq_worker import run_taskiq_worker  # optional: job_queue=taskiq
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logging
from app.workshop import workshop_alone

QueueKind = Callable[[str], RabbitMQQueue]
"""Makes a queue of the broker's URL."""


@asynccontextmanager
async def open_work(settings: Settings) -> AsyncIterator[DocumentWork]:
    """Open the handler of a worker process' jobs."""
    async with workshop_alone(settings) as workshop:
        yield workshop.work


async def resume_unfinished(settings: Settings, broker: str) -> None:
    """Queue what is unfinished; waits for the store and the broker, if need be."""
    kind: QueueKind
    kind = CeleryQueue  # optional: job_queue=celery
    kind = TaskiqQueue  # optional: job_queue=taskiq
    async with workshop_alone(settings) as workshop, kind(broker) as jobs:
        await resume(workshop.store, jobs)


def main() -> None:
    """Run until told to stop."""
    settings = load_settings()
    configure_logging(settings.log_level)
    broker = settings.broker_url.get_secret_value()
    asyncio.run(resume_unfinished(settings, broker))
    run = run_celery_worker  # optional: job_queue=celery
    run = run_taskiq_worker  # optional: job_queue=taskiq
    run(broker, partial(open_work, settings), concurrency=settings.ingestion_concurrency)


if __name__ == "__main__":
    main()
