"""Work on documents in a process of its own: `python -m app.worker`, or `make worker`.

Any number may run. Each also queues again what the store has as unfinished, once nothing waits on
the broker: the job of that is lost. On SIGTERM it takes no more, finishes what it has, and ends.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from app.documents.resuming import resuming
from app.documents.work import DocumentWork
from app.jobs.celery import CeleryQueue  # optional: job_queue=celery
from app.jobs.celery_worker import run_celery_worker  # optional: job_queue=celery
from app.jobs.rabbitmq import RabbitMQQueue
from app.jobs.taskiq import TaskiqQueue  # optional: job_queue=taskiq
from app.jobs.taskiq_worker import run_taskiq_worker  # optional: job_queue=taskiq
from app.settings import Settings, load_settings
from app.stores.protocol import StoreError
from app.telemetry.logs import configure_logging
from app.workshop import workshop_alone

QueueKind = Callable[[str], RabbitMQQueue]
"""Makes a queue of the broker's URL."""


@asynccontextmanager
async def open_work(settings: Settings) -> AsyncIterator[DocumentWork]:
    """Open what a worker process needs for its jobs."""
    kind: QueueKind
    kind = CeleryQueue  # optional: job_queue=celery
    kind = TaskiqQueue  # optional: job_queue=taskiq
    async with (
        workshop_alone(settings) as workshop,
        kind(settings.broker_url.get_secret_value()) as jobs,
        resuming(workshop.store, jobs),
    ):
        yield workshop.work


def main() -> None:
    """Run until told to stop."""
    settings = load_settings()
    configure_logging(settings.log_level)
    broker = settings.broker_url.get_secret_value()
    run = run_celery_worker  # optional: job_queue=celery
    run = run_taskiq_worker  # optional: job_queue=taskiq
    try:
        run(broker, partial(open_work, settings), concurrency=settings.ingestion_concurrency)
    except StoreError as error:
        sys.exit(f"VECTOR_STORE_URL: {error}")


if __name__ == "__main__":
    main()
