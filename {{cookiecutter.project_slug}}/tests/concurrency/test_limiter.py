"""What the limiter promises to its callers; on a virtual clock."""

import asyncio
from collections import deque
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.concurrency.limiter import ConcurrencyLimiter, QueueFull, QueueTimeout, Slot

from .virtual_time import VirtualTimeLoop


def limiter(limit: int = 1, **options: float) -> ConcurrencyLimiter:
    """Make a limiter with room for all, but for what is given."""
    settings = {"max_queue": 1000, "queue_timeout": 30.0, **options}
    return ConcurrencyLimiter(limit, **settings)  # type: ignore[arg-type]


async def hold(limiter: ConcurrencyLimiter, key: str = "", seconds: float = 1.0) -> None:
    """Make one call of that length."""
    async with limiter.slot(key):
        await asyncio.sleep(seconds)


def clock() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def positions(*slots: Slot) -> list[int]:
    """Return the places in the queue; 0 is a slot."""
    return [slot.position for slot in slots]


async def test_position() -> None:
    """A free slot is held at once; position 1 is next, and counts down."""
    calls = limiter()
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(calls.acquire()) for _ in range(3))
        assert await first.wait()
        assert positions(first, second, third) == [0, 1, 2]
        first.release()
        assert positions(second, third) == [0, 1]
        assert (await second.wait(), clock()) == (True, 0.0)


async def test_wait_can_be_repeated() -> None:
    """`wait(within)` is False after that time, as often as called, and True with the slot."""
    calls = limiter()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(calls, seconds=2.5))
        await asyncio.sleep(0)
        with calls.acquire() as slot:
            answers = [(await slot.wait(within=1.0), clock()) for _ in range(3)]
    assert answers == [(False, 1.0), (False, 2.0), (True, 2.5)]


@pytest.mark.parametrize("max_queue", [0, 2])
async def test_full_queue(max_queue: int) -> None:
    """Beyond `max_queue` waiting calls there is QueueFull."""
    calls = limiter(max_queue=max_queue)
    with ExitStack() as stack:
        for _ in range(1 + max_queue):
            stack.enter_context(calls.acquire())
        message = rf"queue full \({max_queue} of {max_queue}\)"
        for refused in (calls.acquire, calls.check_room):
            with pytest.raises(QueueFull, match=message) as refusal:
                refused()
            assert refusal.value.type == "queue_full"
        assert calls.snapshot().refused == 2


@pytest.mark.parametrize(("queue_timeout", "seconds"), [(0.2, 1.0), (30.0, 30.0), (3600.0, 60.0)])
async def test_retry_after(queue_timeout: float, seconds: float) -> None:
    """A refusal names the time for which others may wait: at least 1 s, at most 60 s."""
    calls = limiter(max_queue=0, queue_timeout=queue_timeout)
    with calls.acquire(), pytest.raises(QueueFull) as refusal:
        calls.acquire()
    assert refusal.value.retry_after == seconds


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


async def test_deadline() -> None:
    """QueueTimeout comes when `queue_timeout` has passed, also if the waiter looked in between."""
    calls = limiter(queue_timeout=5.0)
    with calls.acquire(), calls.acquire() as slot:
        assert not await slot.wait(within=3.0)
        with pytest.raises(QueueTimeout, match=r"no slot within 5 s \(1 in use\)") as late:
            await slot.wait(within=3.0)
        assert (late.value.type, late.value.retry_after, clock()) == ("queue_timeout", 5.0, 5.0)
        with pytest.raises(QueueTimeout):
            await slot.wait()
    assert calls.snapshot().timed_out == 1


@pytest.mark.parametrize("within", [0, 2.0])
async def test_deadline_of_a_call(within: float) -> None:
    """`within` replaces `queue_timeout`; with 0 a call gets a free slot or none."""
    calls = limiter()
    with calls.acquire(within=within) as first, calls.acquire(within=within) as second:
        assert await first.wait()
        with pytest.raises(QueueTimeout):
            await second.wait()
        assert clock() == within


async def test_no_wakeup_is_lost() -> None:
    """A waiter that is cancelled when it has the slot and has not run yet passes the slot on."""
    calls = limiter()
    first = calls.acquire()
    waiters = [asyncio.create_task(hold(calls)) for _ in range(2)]
    await asyncio.sleep(0)
    first.release()
    waiters[0].cancel()
    await asyncio.wait(waiters)
    assert waiters[0].cancelled()
    assert waiters[1].exception() is None
    assert calls.in_flight == 0


async def test_cancellation() -> None:
    """A call that is cancelled in its block releases its slot, one that waits leaves the queue."""
    calls = limiter()
    holder, waiter, other = (asyncio.create_task(hold(calls, seconds=60.0)) for _ in range(3))
    await asyncio.sleep(0)
    for task, queued in [(waiter, 1), (holder, 0)]:
        task.cancel()
        await asyncio.wait([task])
        assert (calls.in_flight, calls.snapshot().queued) == (1, queued)
    other.cancel()
    await asyncio.wait([other])
    assert calls.in_flight == 0


async def test_release_counts_once() -> None:
    """An error passes through `slot`, which releases; releasing again does nothing."""
    calls = limiter(2)
    with calls.acquire():
        with pytest.raises(OSError, match="reset"):
            async with calls.slot() as slot:
                raise OSError("reset")
        slot.release()
        assert calls.in_flight == 1


async def test_limit_can_change() -> None:
    """A higher limit admits waiters at once; a lower one waits until enough holders are done."""
    calls = limiter()
    with ExitStack() as stack:
        slots = [stack.enter_context(calls.acquire()) for _ in range(4)]
        calls.limit = 3
        assert positions(*slots) == [0, 0, 0, 1]
        calls.limit = 2
        assert calls.in_flight == 3
        slots[0].release()
        assert slots[3].position == 1
        slots[1].release()
        assert slots[3].position == 0


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


async def test_pause() -> None:
    """In a pause slots stay in use and none is given out, until the longest pause has ended."""
    calls = limiter(2)
    with calls.acquire() as holder:
        for seconds in (5.0, 9.0, 2.0):
            calls.pause(seconds)
        with calls.acquire() as waiter:
            assert (holder.position, waiter.position) == (0, 1)
            holder.release()
            assert await waiter.wait()
            assert clock() == 9.0


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


async def test_snapshot() -> None:
    """Each call is in one count, and the time in the queue is added up."""
    calls = limiter(max_queue=2)
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(calls, seconds=2.0))
        group.create_task(hold(calls, seconds=1.0))
        leaver = group.create_task(hold(calls))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            calls.acquire()
        leaver.cancel()
    state = calls.snapshot()
    assert (state.limit, state.in_flight, state.queued) == (1, 0, 0)
    assert (state.released, state.refused, state.timed_out, state.abandoned) == (2, 1, 0, 1)
    assert state.waited == 2.0


async def test_a_greedy_key_delays_others_by_one_call() -> None:
    """Behind 500 waiting calls of one key, another key's first is next but one."""
    calls = limiter()
    with ExitStack() as stack:
        for _ in range(501):
            stack.enter_context(calls.acquire("greedy"))
        assert stack.enter_context(calls.acquire("modest")).position == 2


@settings(max_examples=25)
@given(steps=st.lists(st.sampled_from("abcd") | st.sampled_from(["serve", "leave"]), max_size=60))
def test_round_robin(steps: list[str]) -> None:
    """Slots go round the keys, in order of arrival within each, and positions foretell it."""

    async def compare_with_a_ring() -> None:
        calls = limiter()
        holder = calls.acquire()
        lanes: dict[str, deque[Slot]] = {}  # the next is first
        for step in steps:
            if step == "serve" and lanes:
                key = next(iter(lanes))
                lane = lanes.pop(key)
                holder.release()
                holder = lane.popleft()
                assert holder.position == 0
            elif step == "leave" and lanes:
                key, lane = lanes.popitem()
                lane.pop().release()
            elif step in "abcd":
                key, lane = step, lanes.get(step, deque())
                lane.append(calls.acquire(key))
            else:
                continue
            if lane:
                lanes[key] = lane
            order = [lane[n] for n in range(60) for lane in lanes.values() if n < len(lane)]
            assert positions(*order) == list(range(1, calls.snapshot().queued + 1))

    loop = VirtualTimeLoop()
    loop.run_until_complete(compare_with_a_ring())
    loop.close()
