"""Process documents in a process of its own: `python -m app.worker`, or `make worker`.

Any number may run. Each takes documents from the broker, and also those in the catalogue that are
overdue: retries, documents of workers that died, and documents whose message was lost.
"""

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from app.documents.jobs.base import OpenPipeline
from app.documents.jobs.celery import run_celery_worker  # optional: job_queue=celery
from app.documents.jobs.taskiq import run_taskiq_worker  # optional: job_queue=taskiq
from app.documents.pipeline import Pipeline
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logging
from app.wiring.documents import check_documents, open_documents_alone

OVERDUE = 30.0
"""Seconds after which a document that is due is processed without a message."""

RUN: Callable[[str, OpenPipeline], None]
RUN = run_celery_worker  # optional: job_queue=celery
RUN = run_taskiq_worker  # optional: job_queue=taskiq


@asynccontextmanager
async def open_pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    """Open the documents side, and process what is overdue."""
    async with open_documents_alone(settings) as documents:
        documents.pipeline.start(overdue=OVERDUE)
        yield documents.pipeline


def main() -> None:
    """Run until SIGTERM.

    What keeps the worker from starting is one line that names the variable, and 1.
    """
    settings = load_settings()
    configure_logging(settings.log_level)
    check_documents(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the tool handles it
    RUN(str(settings.broker_url.get_secret_value()), partial(open_pipeline, settings))


if __name__ == "__main__":
    main()
