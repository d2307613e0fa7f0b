"""A pause of the limiter: nothing is granted, and who cannot outwait it is refused at once."""

import asyncio

import pytest

from app.concurrency.limiter import ConcurrencyLimiter, QueueTimeout


async def test_in_a_pause_nothing_is_granted() -> None:
    """A free slot waits for the end of the pause, then goes to the first in the queue."""
    limiter = ConcurrencyLimiter(1, max_queue=10, queue_timeout=30.0)
    limiter.pause(7.0)
    with limiter.join() as turn:
        assert turn.position == 1
        assert await turn.granted()
        assert asyncio.get_running_loop().time() == 7.0


async def test_holders_go_on_in_a_pause() -> None:
    """A pause takes nothing away, and what comes back in it stays free."""
    limiter = ConcurrencyLimiter(1, max_queue=10, queue_timeout=30.0)
    with limiter.join() as holder, limiter.join() as waiter:
        limiter.pause(7.0)
        assert holder.held
        holder.leave()
        assert not waiter.held
        await asyncio.sleep(7.5)
        assert waiter.held


async def test_a_shorter_pause_does_not_cut_a_longer_one() -> None:
    """Of two pauses the later end counts, in whatever order they come."""
    limiter = ConcurrencyLimiter(1, max_queue=10, queue_timeout=30.0)
    for seconds in (5.0, 9.0, 2.0):
        limiter.pause(seconds)
    with limiter.join() as turn:
        await turn.granted()
        assert asyncio.get_running_loop().time() == 9.0


async def test_a_pause_tells_those_who_cannot_outwait_it() -> None:
    """Waiters and newcomers whose deadline is in the pause learn it now, with the time to wait."""
    limiter = ConcurrencyLimiter(1, max_queue=10, queue_timeout=30.0)
    with limiter.join(), limiter.join() as patient, limiter.join(timeout=5.0) as impatient:
        waiting = asyncio.create_task(impatient.granted())
        await asyncio.sleep(1.0)
        limiter.pause(12.0)
        with pytest.raises(QueueTimeout) as told:
            await waiting
        with pytest.raises(QueueTimeout) as refused:
            limiter.join(timeout=12.0)
        assert asyncio.get_running_loop().time() == 1.0
        assert told.value.retry_after == refused.value.retry_after == 12.0
        assert patient.position == 1
    assert limiter.snapshot().timed_out == 2
