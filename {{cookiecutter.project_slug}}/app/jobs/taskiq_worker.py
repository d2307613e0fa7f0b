"""Taskiq workers for jobs on RabbitMQ.

    run_taskiq_worker("amqp://localhost/", open_handler, concurrency=4)

One process, one event loop, `concurrency` jobs at once; run several for more. Taskiq reads the
calls and runs them and its middlewares; `deliver` decides what becomes of a job. The broker
below is used instead of taskiq-aio-pika's, which ends when RabbitMQ is away for a minute or has
not started yet, and whose waits hold each other up.

Guarantees: a message is acknowledged when its job is done or handed on, and no more are fetched
than run, so a worker that is killed loses none. What is no job goes to the dead letters; so does
a job that can be neither done nor handed on. It waits for a broker that is not there, and goes on
by itself when it is back. On SIGTERM and SIGINT it fetches nothing more, gives running jobs
`drain_timeout` seconds, gives the rest back, and returns.

Needs: taskiq, aio-pika, `taskiq`, `delivery`, `rabbitmq`, `attempt`, `protocol`.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Annotated, Any, cast

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from taskiq import AckableMessage, AcknowledgeType, AsyncBroker, Context, TaskiqDepends
from taskiq.message import BrokerMessage
from taskiq.receiver import Receiver

from .attempt import Backoff
from .delivery import DRAIN_TIMEOUT, OpenHandler, deliver
from .protocol import JobHandler
from .rabbitmq import HEARTBEAT, QUEUE, Job, declare
from .taskiq import TASK, TaskiqQueue, decode

RECONNECT_PAUSE = 1.0
"""Seconds between attempts to reach a broker that is away."""
BROKER_TIMEOUT = 10.0
"""Seconds in which the broker is to answer."""

_Arrivals = asyncio.Queue[AbstractIncomingMessage | None]
"""Messages, then None when no more will come."""


def run_taskiq_worker(
    url: str,
    open_handler: OpenHandler,
    *,
    concurrency: int = 2,
    drain_timeout: float = DRAIN_TIMEOUT,
    queue: str = QUEUE,
    backoff: Backoff = Backoff(),  # noqa: B008 -- immutable
) -> None:
    """Work until SIGTERM or SIGINT. Raises what opening the handler raises."""

    async def work() -> None:
        broker = RabbitMQBroker(url, queue=queue, concurrency=concurrency)
        running: set[asyncio.Task[Any]] = set()
        async with open_handler() as handler, TaskiqQueue(url, queue=queue) as jobs:

            async def process(
                document_id: str, context: Annotated[Context, TaskiqDepends()]
            ) -> None:
                labels = context.message.labels
                job = Job(document_id, labels["priority"], labels["attempt"])
                with _listed(running):
                    await _deliver(handler, jobs, job, backoff)
                with suppress(*CONNECTION_EXCEPTIONS):  # else it comes again, and is done already
                    await context.ack()

            broker.register_task(process, TASK)
            try:
                await _receive(broker, concurrency, drain_timeout)
            finally:
                await _give_back(running)
                await broker.shutdown()

    asyncio.run(work())


async def _deliver(handler: JobHandler, jobs: TaskiqQueue, job: Job, backoff: Backoff) -> None:
    """Deliver a job; if it cannot be handed on, bury it, as it would keep its place for ever."""
    try:
        await deliver(handler, jobs, job, backoff=backoff)
    except Exception as error:
        logging.getLogger(__name__).exception("document %s: not handed on", job.document_id)
        await jobs.bury(job, f"{type(error).__name__}: {error}")


@contextmanager
def _listed(running: set[asyncio.Task[Any]]) -> Iterator[None]:
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    running.add(task)
    try:
        yield
    finally:
        running.remove(task)


async def _give_back(running: set[asyncio.Task[Any]]) -> None:
    """Cancel what still runs: it is not acknowledged, so the broker gives it to somebody else."""
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


async def _receive(broker: AsyncBroker, concurrency: int, drain_timeout: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    receiver = Receiver(
        broker,
        max_async_tasks=concurrency,
        run_startup=False,
        ack_type=AcknowledgeType.MANUAL,
        wait_tasks_timeout=drain_timeout,
    )
    await receiver.listen(stop)


class RabbitMQBroker(AsyncBroker):
    """What Taskiq's receiver reads from; its connection outlives `listen`, for late acks."""

    def __init__(self, url: str, *, queue: str, concurrency: int) -> None:
        super().__init__()
        self._url = url
        self._queue = queue
        self._concurrency = concurrency
        self._connection: AbstractConnection | None = None

    async def kick(self, message: BrokerMessage) -> None:
        """Publish nothing: that is TaskiqQueue's, which has a deadline."""
        raise NotImplementedError

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield the jobs that arrive, over one connection after the other."""
        log = logging.getLogger(__name__)
        while True:
            arrivals: _Arrivals = asyncio.Queue()
            try:
                stop_consuming = await self._consume(arrivals)
            except CONNECTION_EXCEPTIONS as error:  # an asyncio.timeout that expires is one, too
                log.warning("jobs: no connection to the broker: %r", error)
            else:
                try:
                    while (message := await arrivals.get()) is not None:
                        if await _is_job(message):
                            yield AckableMessage(data=message.body, ack=message.ack)
                finally:
                    with suppress(*CONNECTION_EXCEPTIONS):
                        await stop_consuming()
                log.warning("jobs: the connection to the broker is lost")
            await asyncio.sleep(RECONNECT_PAUSE)

    async def shutdown(self) -> None:
        """Hang up: the broker takes back what is not acknowledged."""
        await super().shutdown()
        await self._hang_up()

    async def _consume(self, arrivals: _Arrivals) -> Callable[[], Awaitable[Any]]:
        """Connect, and consume into the queue until it gets None; return how to stop."""
        await self._hang_up()

        def lost(*_: object) -> None:
            arrivals.put_nowait(None)

        async with asyncio.timeout(BROKER_TIMEOUT):
            self._connection = await aio_pika.connect(self._url, heartbeat=HEARTBEAT)
            channel = await self._connection.channel()
            channel.close_callbacks.add(lost)
            (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lost)
            await channel.set_qos(self._concurrency)
            queue = await declare(channel, self._queue)
            tag = await queue.consume(arrivals.put)
        return partial(queue.cancel, tag, nowait=True)  # it may be silent, and jobs go on

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not under a timeout: closing what is broken already may swallow its cancel.
            closing = asyncio.ensure_future(connection.close())
            await asyncio.wait([closing], timeout=BROKER_TIMEOUT)
            if closing.done() and not closing.cancelled():
                closing.exception()  # it is closed either way


async def _is_job(message: AbstractIncomingMessage) -> bool:
    """Tell whether it is a job; if not, it is now among the dead letters.

    Taskiq would acknowledge what it cannot read, and leave what it cannot call unacknowledged.
    """
    try:
        decode(message.body)
    except ValueError:
        log = logging.getLogger(__name__)
        log.warning("jobs: a message of %d bytes is no job", len(message.body))
        with suppress(*CONNECTION_EXCEPTIONS):  # else it comes again
            await message.reject(requeue=False)
        return False
    return True
