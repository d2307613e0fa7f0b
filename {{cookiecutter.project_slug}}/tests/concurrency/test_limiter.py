"""What the limiter guarantees to its callers; on a virtual clock."""

import asyncio
from contextlib import ExitStack

import pytest

from app.concurrency.limiter import ConcurrencyLimiter, QueueFull, QueueTimeout, Slot


def limiter(limit: int = 1, **options: float) -> ConcurrencyLimiter:
    """Make a limiter with room for all, except for the options."""
    settings = {"max_queue": 1000, "queue_timeout": 30.0, **options}
    return ConcurrencyLimiter(limit, **settings)  # type: ignore[arg-type]


async def hold(limiter: ConcurrencyLimiter, seconds: float = 1.0) -> None:
    """Make one call of that length."""
    async with limiter.slot():
        await asyncio.sleep(seconds)


def clock() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def positions(*slots: Slot) -> list[int]:
    """Return the places in the queue; 0 is a slot."""
    return [slot.position for slot in slots]


@pytest.mark.parametrize(
    ("max_queue", "queue_timeout", "retry_after"),
    [(0, 30.0, 30.0), (2, 0.2, 1.0), (2, 3600.0, 60.0)],
)
async def test_full_queue(max_queue: int, queue_timeout: float, retry_after: float) -> None:
    """Beyond `max_queue` waiting calls there is QueueFull; to be retried after 1 to 60 s."""
    calls = limiter(max_queue=max_queue, queue_timeout=queue_timeout)
    with ExitStack() as stack:
        for _ in range(1 + max_queue):
            stack.enter_context(calls.acquire())
        message = rf"queue full \({max_queue} of {max_queue}\)"
        for refused in (calls.acquire, calls.check_room):
            with pytest.raises(QueueFull, match=message) as refusal:
                refused()
            assert (refusal.value.type, refusal.value.retry_after) == ("queue_full", retry_after)
        assert calls.snapshot().refused == 2


@pytest.mark.parametrize(
    ("waiting", "newcomer", "displaced"),
    [
        ("aaa", "b", 2),  # one client may fill the queue, until another comes
        ("aba", "c", 2),
        ("aab", "b", 1),  # fewer than the other: both have as many then
        ("aab", "a", None),
        ("abc", "a", None),  # no other key has more
        ("abc", "d", 0),
        ("", "a", None),  # there is no queue
    ],
)
async def test_displacement(waiting: str, newcomer: str, displaced: int | None) -> None:
    """In a full queue, a key with fewer waiting displaces the newest of the key with the most."""
    calls = limiter(max_queue=len(waiting))
    with ExitStack() as stack:
        stack.enter_context(calls.acquire("a"))
        slots = [stack.enter_context(calls.acquire(key)) for key in waiting]
        tasks = [asyncio.create_task(slot.wait()) for slot in slots]
        await asyncio.sleep(1.0)
        if displaced is None:
            for refused in (calls.check_room, calls.acquire):
                with pytest.raises(QueueFull):
                    refused(newcomer)
            assert calls.snapshot().queued == len(waiting)
            return
        calls.check_room(newcomer)
        assert calls.snapshot().refused == 0
        assert stack.enter_context(calls.acquire(newcomer)).position > 0
        with pytest.raises(QueueFull) as refusal:
            await tasks[displaced]
        assert (refusal.value.retry_after, clock()) == (30.0, 1.0)
        assert [task.done() for task in tasks].count(True) == calls.snapshot().refused == 1


@pytest.mark.parametrize(
    ("keys", "order"),
    [("a", "0"), ("aaab", "0312"), ("aabbc", "02413"), ("cbaabbaac", "012843567")],
)
async def test_round_robin(keys: str, order: str) -> None:
    """Slots go round the keys, in order of arrival within each; positions say in which order."""
    calls = limiter()
    holder = calls.acquire()
    slots = [calls.acquire(key) for key in keys]
    queue = [slots[int(number)] for number in order]
    while queue:
        assert positions(holder, *queue) == list(range(len(queue) + 1))
        holder.release()
        holder = queue.pop(0)
    assert (await holder.wait(), clock()) == (True, 0.0)


@pytest.mark.parametrize(("queue_timeout", "within"), [(5.0, None), (30.0, 5.0), (30.0, 0.0)])
async def test_deadline(queue_timeout: float, within: float | None) -> None:
    """QueueTimeout comes at the deadline, also if the waiter looked in between; 0 is at once."""
    calls = limiter(queue_timeout=queue_timeout)
    deadline = queue_timeout if within is None else within
    with calls.acquire(within=within) as first, calls.acquire(within=within) as slot:
        assert await first.wait()
        if deadline:
            assert (await slot.wait(within=3.0), clock()) == (False, 3.0)
        message = rf"no slot within {deadline:g} s \(1 in use\)"
        for _ in range(2):
            with pytest.raises(QueueTimeout, match=message) as late:
                await slot.wait(within=3.0)
            assert (late.value.type, late.value.retry_after) == ("queue_timeout", queue_timeout)
        assert (clock(), calls.snapshot().timed_out) == (deadline, 1)


async def test_no_slot_after_the_deadline() -> None:
    """A waiter that is busy elsewhere beyond its deadline is passed over."""
    calls = limiter(queue_timeout=5.0)
    with calls.acquire() as first, calls.acquire() as busy:
        await asyncio.sleep(6.0)  # as in a send to a client that does not read
        with calls.acquire() as next_one:
            first.release()
            assert next_one.position == 0
        with pytest.raises(QueueTimeout):
            await busy.wait()
    assert calls.snapshot().timed_out == 1


async def test_cancellation() -> None:
    """A call is cancelled in its block, while it waits, or when it has its slot and has not run."""
    calls = limiter()
    holder, waiter, next_one, last = (asyncio.create_task(hold(calls)) for _ in range(4))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert (calls.in_flight, calls.snapshot().queued) == (1, 2)
    holder.cancel()
    await asyncio.sleep(0)  # it has released its slot to the next one
    next_one.cancel()
    await last
    assert [task.cancelled() for task in (holder, waiter, next_one)] == [True] * 3
    assert (calls.in_flight, calls.snapshot().waited) == (0, 0.0)


async def test_pause() -> None:
    """In a pause slots stay in use and none is given out, until the longest pause has ended."""
    calls = limiter(2)
    with calls.acquire() as holder:
        for seconds in (5.0, 9.0, 2.0):
            calls.pause(seconds)
        with calls.acquire() as waiter:
            assert positions(holder, waiter) == [0, 1]
            holder.release()
            assert (await waiter.wait(), clock()) == (True, 9.0)
    assert calls.snapshot().waited == 9.0


async def test_pause_fails_those_that_cannot_wait_for_its_end() -> None:
    """Waiting and new calls whose deadline is in the pause fail at once, with the time left."""
    calls = limiter()
    with calls.acquire(), calls.acquire() as patient, calls.acquire(within=5.0) as impatient:
        waiting = asyncio.create_task(impatient.wait())
        await asyncio.sleep(1.0)
        calls.pause(12.0)
        with pytest.raises(QueueTimeout) as failed:
            await waiting
        with pytest.raises(QueueTimeout) as refused:
            calls.acquire(within=12.0)
        assert clock() == 1.0
        assert failed.value.retry_after == refused.value.retry_after == 12.0
        assert patient.position == 1
    assert calls.snapshot().timed_out == 2
