"""Documents as Celery tasks: the publisher and the worker. See `base`.

Celery's worker runs tasks in threads; each waits for its document on one event loop.
"""

import asyncio
import sys
from collections.abc import Sequence

from anyio.from_thread import start_blocking_portal
from celery import Celery
from celery.signals import setup_logging
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]
from celery.worker.consumer import Consumer
from kombu import Connection

from .base import DEADLINE, TASK, OpenPipeline, Publisher

QUEUE = "documents.celery"
HEARTBEAT = 10
"""Seconds after which a silent broker counts as lost; a signal is handled in half of it."""


class BoundedConsumer(Consumer):
    """Celery's consumer, which a silent broker cannot block."""

    def connect(self) -> Connection:
        """Connect; waits for the broker end after DEADLINE."""
        connection: Connection = super().connect()
        bound_open_broker_sockets(connection, DEADLINE)
        return connection


def build_app(url: str) -> Celery:
    """Build the application of publishers and workers alike."""
    app = Celery("documents", set_as_current=False)
    app.conf.update(
        broker_url=url,
        broker_connection_timeout=DEADLINE,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=HEARTBEAT,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_publish_retry=False,
        worker_consumer=BoundedConsumer,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
    )
    return app


def celery_publisher(url: str) -> Publisher:
    """Send documents to the workers, over a connection for each batch."""
    app = build_app(url)
    options = {"confirm_publish": True}

    def send_all(document_ids: Sequence[str]) -> None:
        with app.connection_for_write(transport_options=options) as connection:
            connection.connect()
            bound_open_broker_sockets(connection, DEADLINE)  # or the thread may hang for ever
            for document_id in document_ids:
                app.send_task(TASK, [document_id], connection=connection)

    async def send(document_ids: Sequence[str]) -> None:
        await asyncio.to_thread(send_all, document_ids)

    return Publisher(send)


def run_celery_worker(url: str, open_pipeline: OpenPipeline) -> None:
    """Process documents until SIGTERM, in threads that wait for one event loop."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_pipeline()) as pipeline,
    ):
        app = build_app(url)

        @app.task(name=TASK)
        def process(document_id: str) -> None:
            portal.call(pipeline.process, document_id)

        setup_logging.connect(lambda **_: None, weak=False)  # logging is set up already
        worker = app.Worker(
            pool="threads",
            concurrency=pipeline.width,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        worker.start()
    sys.exit(worker.exitcode)
