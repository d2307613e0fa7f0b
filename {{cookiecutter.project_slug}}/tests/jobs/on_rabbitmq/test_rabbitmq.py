"""Publishing: what returned is safe, and what does not return in time is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aio_pika import DeliveryMode

from app.jobs.protocol import JobQueueUnavailableError
from app.jobs.rabbitmq import RETRY_AFTER, Job
from tests.rabbitmq import LOCALHOST, RabbitMQNode

from .peek import LONG, Peek
from .plain import PlainQueue, decode
from .relay import Relay

SHORT = 0.2
"""Seconds."""


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Take connections, and say nothing on them; yield the URL."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(listen, LOCALHOST, 0) as server:
        yield f"amqp://guest:guest@{LOCALHOST}:{server.sockets[0].getsockname()[1]}/"


async def refuses(jobs: PlainQueue) -> JobQueueUnavailableError:
    """Publish in vain."""
    async with asyncio.timeout(LONG):
        with pytest.raises(JobQueueUnavailableError) as refused:
            await jobs.publish("d")
    return refused.value


async def test_what_is_published_waits_on_the_broker(peek: Peek) -> None:
    """A job is a persistent message with its priority, in a queue that survives the broker."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        await jobs.publish("d", priority=7)
        message = await peek.take()
    assert (decode(message), message.priority) == (Job("d", 7), 7)
    assert message.delivery_mode == DeliveryMode.PERSISTENT


async def test_a_lost_connection_is_replaced(peek: Peek, broker_node: RabbitMQNode) -> None:
    """Publishing connects anew when the broker has closed the connection."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        await jobs.publish("d")
        await asyncio.to_thread(broker_node.control, "close_all_connections", "by the test")
        async with asyncio.timeout(LONG):
            while not await published(jobs, "e"):
                pass
        assert decode(await peek.take()) == Job("d")
        assert decode(await peek.take()) == Job("e")


async def test_many_publish_at_once(peek: Peek) -> None:
    """Publishers of one process share a connection, and each waits for its own confirmation."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        await asyncio.gather(*(jobs.publish(f"d-{number}") for number in range(100)))
        assert await peek.ready() == 100


async def test_a_broker_that_is_not_there_is_unavailable() -> None:
    """An unreachable broker is an error at once, which says when to try again."""
    async with silent_server() as url:
        pass
    async with PlainQueue(url, deadline=LONG) as jobs:
        error = await refuses(jobs)
    assert error.retry_after == RETRY_AFTER
    assert "the broker did not take the job within 60 s" in str(error)


async def test_a_broker_that_does_not_greet_is_unavailable() -> None:
    """The deadline holds for connecting, too."""
    async with silent_server() as url, PlainQueue(url, deadline=SHORT) as jobs:
        error = await refuses(jobs)
    assert str(error) == "the broker did not take the job within 0.2 s: no answer"


async def test_a_broker_that_stalls_is_unavailable_until_it_goes_on(
    peek: Peek, broker_node: RabbitMQNode
) -> None:
    """Silence on an open connection ends at the deadline; the next try has a new connection."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as opened:
        await opened.publish("early")
    async with PlainQueue(peek.url, queue=peek.queue, deadline=1.0) as jobs:
        await published(jobs, "early")
        with broker_node.stalled():
            await refuses(jobs)
            await refuses(jobs)
        async with asyncio.timeout(LONG):
            while not await published(jobs, "late"):
                pass
    while decode(await peek.take()) != Job("late"):
        pass


async def test_a_connection_that_went_silent_is_not_tried_again(peek: Peek) -> None:
    """After a failure the next job goes over a new connection, even if the old one seems open."""
    async with (
        Relay(peek.url) as relay,
        PlainQueue(relay.url, queue=peek.queue, deadline=1.0) as jobs,
    ):
        while not await published(jobs, "early"):
            pass
        relay.forget()
        await refuses(jobs)
        async with asyncio.timeout(LONG):
            while not await published(jobs, "late"):
                pass


async def published(jobs: PlainQueue, document: str) -> bool:
    """Publish, and tell whether that was confirmed."""
    try:
        await jobs.publish(document)
    except JobQueueUnavailableError:
        return False
    return True


async def test_leaving_does_not_wait_for_a_silent_broker(
    peek: Peek, broker_node: RabbitMQNode
) -> None:
    """Closing the connection is bounded by the deadline as well."""
    with contextlib.ExitStack() as afterwards:
        async with (
            asyncio.timeout(LONG),
            PlainQueue(peek.url, queue=peek.queue, deadline=1.0) as jobs,
        ):
            while not await published(jobs, "d"):
                pass
            afterwards.enter_context(broker_node.stalled())


async def test_a_publisher_that_is_cancelled_harms_nobody(peek: Peek) -> None:
    """Others go on to publish, over the same queue object."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        for steps in range(10):
            publishing = asyncio.create_task(jobs.publish("cancelled"))
            for _ in range(steps):
                await asyncio.sleep(0)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await jobs.publish("d")
    assert await peek.ready() >= 10


async def test_a_retry_comes_after_its_wait_and_holds_up_no_other(peek: Peek) -> None:
    """A retry has its attempt counted and its priority kept; a longer wait is not in its way."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        await jobs.publish_again(Job("long", 1, 3), wait=3600)
        await jobs.publish_again(Job("short", 4, 2), wait=0.05)
        message = await peek.take()
        assert (decode(message), message.priority) == (Job("short", 4, 3), 4)
        assert await peek.ready(f"{peek.queue}.retry.3600000") == 1


async def test_jittered_waits_share_queues(peek: Peek) -> None:
    """Waits are rounded up to two digits, so a thousand jitters do not make a thousand queues."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        for wait in (60.001, 60.2, 60.9):
            await jobs.publish_again(Job("d"), wait=wait)
        assert await peek.ready(f"{peek.queue}.retry.61000") == 3


async def test_a_dead_letter_is_a_new_job_with_its_error(peek: Peek) -> None:
    """It says which document and why, and moved back to the queue it has all attempts before it."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        await jobs.bury(Job("d", 2, 5), "x" * 10_000)
    letter = await peek.take(peek.dead)
    assert decode(letter) == Job("d", 2, 1)
    assert letter.headers == {"document": "d", "error": "x" * 1000}
