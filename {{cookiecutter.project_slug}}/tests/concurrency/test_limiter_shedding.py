"""A call that cannot make its deadline is told at once; one that might is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.concurrency.limiter import ConcurrencyLimiter, QueueFull, QueueTimeout
from app.concurrency.pace import Pace


@asynccontextmanager
async def busy(limit: int, *, callers: int) -> AsyncIterator[ConcurrencyLimiter]:
    """Queue so many calls of 10 s each under one key; they start and end in lockstep."""
    limiter = ConcurrencyLimiter(limit, max_queue=1000, queue_timeout=30.0)

    async def call() -> None:
        async with limiter.slot("busy", timeout=100_000.0):
            await asyncio.sleep(10.0)

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    await asyncio.sleep(0)
    try:
        yield limiter
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_hopeless_call_is_shed_on_arrival() -> None:
    """After ten turns of 10 s each, the 20th in the queue is not let wait for 30 s in vain."""
    async with busy(1, callers=30) as limiter:
        await asyncio.sleep(105.0)
        with pytest.raises(QueueTimeout, match="no slot of 1 can come free within 30 s") as shed:
            limiter.join("busy")
        assert limiter.snapshot().shed == 1
        assert limiter.snapshot().queued == 19
        assert shed.value.retry_after == 30.0  # by then all who have this patience are gone


async def test_nobody_is_shed_without_evidence() -> None:
    """Nine turns are not enough to tell."""
    async with busy(1, callers=30) as limiter:
        await asyncio.sleep(95.0)
        with limiter.join("busy") as turn:
            assert turn.position == 21


async def test_a_call_is_judged_by_its_own_turn() -> None:
    """With the same queue before it, a call whose fair turn comes early is let in."""
    async with busy(1, callers=30) as limiter:
        await asyncio.sleep(105.0)
        with limiter.join("modest") as turn:
            assert turn.position == 2


async def test_a_call_with_a_chance_is_let_in() -> None:
    """Where twice the speed seen would do, the call may wait; one place further it may not."""
    async with busy(1, callers=15) as limiter:
        await asyncio.sleep(101.0)
        with limiter.join("busy") as turn:
            assert turn.position == 5
            with pytest.raises(QueueTimeout):
                limiter.join("busy")


@pytest.mark.parametrize("limit", [1, 2, 20, 50])
@pytest.mark.parametrize("moment", [30.1, 34.9, 39.9])
async def test_calls_in_lockstep_do_not_mislead(limit: int, moment: float) -> None:
    """Also just before a whole batch of slots comes free, nobody is shed who would be served."""
    async with busy(limit, callers=8 * limit) as limiter:
        await asyncio.sleep(moment)
        limiter.join("busy", timeout=80.1 - moment).leave()


async def test_an_idle_spell_says_nothing_of_the_pace() -> None:
    """What was seen before the queue was last empty is no evidence."""
    async with busy(1, callers=12) as limiter:
        await asyncio.sleep(10_000.0)
        with limiter.join(timeout=100.0), limiter.join(timeout=0.1) as turn:
            assert turn.position == 1


async def test_a_pause_says_nothing_of_the_pace() -> None:
    """After it the queue is measured anew, and nobody is shed for the time it stood still."""
    async with busy(1, callers=30) as limiter:
        await asyncio.sleep(105.0)
        limiter.pause(50.0)
        await asyncio.sleep(51.0)
        with limiter.join("busy") as turn:
            assert turn.position == 19


async def test_the_wait_to_come_is_told_to_the_refused() -> None:
    """`retry_after` is when those in the queue will have been served, at the pace seen."""
    limiter = ConcurrencyLimiter(1, max_queue=3, queue_timeout=100.0)
    with limiter.join() as first, limiter.join(), limiter.join(), limiter.join():
        with pytest.raises(QueueFull) as at_first:
            limiter.join()
        await asyncio.sleep(10.0)
        first.leave()
        with limiter.join(), pytest.raises(QueueFull) as later:
            limiter.join()
    assert at_first.value.retry_after == 100.0  # all waiters have gone then, whatever happens
    assert later.value.retry_after == 30.0


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
    assert limiter.snapshot().shed == 2


def test_the_pace_forgets() -> None:
    """A service that has become ten times as fast is believed after three turns of each slot."""
    pace = Pace()
    pace.restart(0.0)
    for turn in range(100):
        pace.count_turn(10.0 * (turn + 1), 10)
    assert pace.retry_after(1, 1000.0, at_most=30.0) == pytest.approx(10.0)
    for turn in range(60):
        pace.count_turn(1000.0 + turn + 1, 10)
    assert pace.sure_wait(1, 1060.0, 10) < 2.0
