"""What is unfinished is published again when the broker has nothing of it, and not before."""

import asyncio

from app.documents.resuming import resume
from app.documents.submission import Submission
from app.jobs.rabbitmq import Job
from tests.documents.parts import Documents

from .peek import LONG, Peek
from .plain import PlainQueue


class Watched(PlainQueue):
    """A queue that counts how often it was asked."""

    looks = 0

    async def may_resume(self) -> bool:
        """Count."""
        answer = await super().may_resume()
        self.looks += 1
        return answer


async def test_only_an_empty_broker_takes_the_backlog(peek: Peek) -> None:
    """A job that waits for a worker is a reason to wait, and one that was taken is none."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        assert await jobs.may_resume()
        await jobs.publish("d")
        assert not await jobs.may_resume()
        await peek.take()
        assert await jobs.may_resume()


async def test_a_retry_is_part_of_the_backlog(peek: Peek) -> None:
    """A job that waits for its next attempt is a reason to wait, and one that came is none."""
    async with PlainQueue(peek.url, queue=peek.queue, deadline=LONG) as jobs:
        await jobs.publish_again(Job("d"), wait=0.5)
        assert not await jobs.may_resume()
        await peek.take()
        async with asyncio.timeout(LONG):
            while not await jobs.may_resume():  # noqa: ASYNC110 -- a broker's
                await asyncio.sleep(0.02)
        await jobs.publish_again(Job("d"), wait=3600)
        assert (await peek.ready(), await jobs.may_resume()) == (0, False)


async def test_many_starts_queue_the_backlog_once(peek: Peek) -> None:
    """The first worker that starts queues what is unfinished, the next ones see that it waits."""
    store = Documents()
    for number in range(50):
        await store.submit(Submission.text(f"{number}").document, b"")
    async with (
        asyncio.timeout(LONG),
        Watched(peek.url, queue=peek.queue, deadline=LONG) as jobs,
        asyncio.TaskGroup() as workers,
    ):
        await resume(store, jobs)
        starts = [workers.create_task(resume(store, jobs, look_again=0.01)) for _ in range(4)]
        while jobs.looks < 20 and not any(start.done() for start in starts):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for start in starts:
            assert not start.done()
            start.cancel()
    assert await peek.ready() == 50
