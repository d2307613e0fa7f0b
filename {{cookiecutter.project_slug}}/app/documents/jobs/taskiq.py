"""Documents as Taskiq tasks: the publisher and the worker. See `base`."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aio_pika import Connection
from taskiq.kicker import AsyncKicker
from taskiq.receiver import Receiver
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from app.documents.pipeline import Pipeline

from .base import DEADLINE, TASK, OpenPipeline, Publisher

QUEUE = "documents.taskiq"
HEARTBEAT = 5
"""Seconds; a broker that is silent for about four times as long counts as lost."""
RECONNECT_PAUSE = 2.0

log = logging.getLogger(__name__)


def build_broker(url: str, *, qos: int = 1) -> AioPikaBroker:
    """Build a broker of a publisher or a worker, for one connection."""
    return AioPikaBroker(
        url,
        exchange=Exchange(name=QUEUE),
        task_queues=[Queue(name=QUEUE, type=QueueType.CLASSIC)],
        dead_letter_queue=Queue(name=f"{QUEUE}.dead", type=QueueType.CLASSIC),
        heartbeat=HEARTBEAT,
        timeout=DEADLINE,
        connection_class=Connection,  # aio-pika's "robust" ones may never end
        qos=qos,
    )


def taskiq_publisher(url: str) -> Publisher:
    """Send documents to the workers, over a connection for each batch."""

    async def send(document_ids: Sequence[str]) -> None:
        broker = build_broker(url)
        task = AsyncKicker[[str], None](TASK, broker, labels={})
        async with _running(broker):
            for document_id in document_ids:
                async with asyncio.timeout(DEADLINE):
                    await task.kiq(document_id)

    return Publisher(send)


def run_taskiq_worker(url: str, open_pipeline: OpenPipeline) -> None:
    """Process documents until SIGTERM, over one connection after another."""

    async def work() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with open_pipeline() as pipeline:
            while not stop.is_set():
                await _receive(url, pipeline, stop)
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECONNECT_PAUSE):
                        await stop.wait()

    asyncio.run(work())


async def _receive(url: str, pipeline: Pipeline, stop: asyncio.Event) -> None:
    """Run tasks until the connection is lost, or until `stop` is set and they have ended."""
    broker = build_broker(url, qos=pipeline.width)
    broker.is_worker_process = True

    @broker.task(TASK)
    async def process(document_id: str) -> None:
        await pipeline.process(document_id)

    try:
        async with _running(broker):
            receiver = Receiver(broker, max_async_tasks=pipeline.width, run_startup=False)
            await receiver.listen(stop)
    except Exception as error:  # noqa: BLE001 -- the broker may fail in any way
        log.warning("no connection to the broker: %r", error)


@asynccontextmanager
async def _running(broker: AioPikaBroker) -> AsyncIterator[None]:
    """Connect, and disconnect on leaving; each ends after DEADLINE."""
    try:
        async with asyncio.timeout(DEADLINE):
            await broker.startup()
        yield
    finally:
        with suppress(Exception):  # the broker may be gone, or silent
            async with asyncio.timeout(DEADLINE):
                await broker.shutdown()
