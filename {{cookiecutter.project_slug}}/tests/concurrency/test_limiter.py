"""What the limiter promises to those who call it; on a virtual clock."""

import asyncio
from contextlib import ExitStack

import pytest

from app.concurrency.limiter import ConcurrencyLimiter, QueueFull, QueueTimeout


def limiter(limit: int = 1, **options: float) -> ConcurrencyLimiter:
    """Make a limiter with room for all, but for what is given."""
    settings = {"max_queue": 1000, "queue_timeout": 30.0, **options}
    return ConcurrencyLimiter(limit, **settings)  # type: ignore[arg-type]


async def hold(limiter: ConcurrencyLimiter, key: str = "", seconds: float = 1.0) -> None:
    """Make one call of that length."""
    async with limiter.slot(key):
        await asyncio.sleep(seconds)


async def test_a_free_slot_is_taken_at_once() -> None:
    """The slot is held when `join` returns, and waiting for it does not even yield to the loop."""
    calls = limiter()
    with calls.join() as turn:
        assert turn.held
        assert turn.position == 0
        assert await turn.granted()
        assert calls.in_flight == 1
    assert calls.in_flight == 0


async def test_those_who_wait_see_the_queue_move() -> None:
    """Position 1 is next; it counts down to 0, when the slot is held."""
    calls = limiter()
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(calls.join()) for _ in range(3))
        assert [first.position, second.position, third.position] == [0, 1, 2]
        first.leave()
        assert [second.position, third.position] == [0, 1]
        assert await second.granted()


async def test_granted_looks_again_after_so_many_seconds() -> None:
    """`granted(within)` says False after that time, as often as asked, and True with the slot."""
    calls = limiter()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(calls, seconds=2.5))
        await asyncio.sleep(0)
        clock = asyncio.get_running_loop().time
        with calls.join() as turn:
            answers = [(await turn.granted(within=1.0), clock()) for _ in range(3)]
    assert answers == [(False, 1.0), (False, 2.0), (True, 2.5)]


async def test_several_tasks_may_wait_for_one_turn() -> None:
    """All of them are woken with the slot."""
    calls = limiter()
    with calls.join() as first, calls.join() as turn:
        waiting = [asyncio.create_task(turn.granted()) for _ in range(2)]
        await asyncio.sleep(1.0)
        first.leave()
        assert await asyncio.gather(*waiting) == [True, True]
        assert asyncio.get_running_loop().time() == 1.0


async def test_a_full_queue_refuses() -> None:
    """Beyond `max_queue` waiters there is QueueFull, which names the figures and a time."""
    calls = limiter(max_queue=2)
    refused = pytest.raises(QueueFull, match=r"full \(2 of 2\)")
    with calls.join(), calls.join(), calls.join(), refused as refusal:
        calls.join()
    assert refusal.value.type == "queue_full"
    assert refusal.value.retry_after == 30.0
    assert calls.snapshot().refused == 1


@pytest.mark.parametrize(("queue_timeout", "seconds"), [(0.2, 1.0), (30.0, 30.0), (3600.0, 60.0)])
async def test_retry_after_is_bounded(queue_timeout: float, seconds: float) -> None:
    """A refusal asks for as long as others may wait, but at least 1 s and at most 60 s."""
    calls = limiter(max_queue=0, queue_timeout=queue_timeout)
    with calls.join(), pytest.raises(QueueFull) as refusal:
        calls.join()
    assert refusal.value.retry_after == seconds


async def test_room_is_checked_without_taking_it() -> None:
    """`check_room` refuses what `join` would, counts it, and keeps neither a slot nor a place."""
    calls = limiter(max_queue=1)
    calls.check_room()
    with calls.join() as first:
        assert first.held
        calls.check_room()
        with calls.join() as second:
            assert second.position == 1
            with pytest.raises(QueueFull):
                calls.check_room()
            assert calls.snapshot().refused == 1
        calls.pause(60.0)
        with pytest.raises(QueueTimeout) as paused:
            calls.check_room()
    assert paused.value.retry_after == 60.0


async def test_without_a_queue_nobody_waits() -> None:
    """A `max_queue` of 0 turns the limiter into a plain ceiling."""
    calls = limiter(max_queue=0)
    with calls.join(), pytest.raises(QueueFull):
        calls.join()


async def test_the_wait_ends_at_its_deadline() -> None:
    """QueueTimeout comes when `queue_timeout` has passed, also if the waiter looked in between."""
    calls = limiter(queue_timeout=5.0)
    with calls.join(), calls.join() as turn:
        assert not await turn.granted(within=3.0)
        with pytest.raises(QueueTimeout, match=r"no slot of 1 came free within 5 s") as late:
            await turn.granted(within=3.0)
        assert asyncio.get_running_loop().time() == 5.0
        with pytest.raises(QueueTimeout):
            await turn.granted()
    assert late.value.type == "queue_timeout"
    assert late.value.retry_after is not None
    assert late.value.retry_after >= 1.0
    assert calls.snapshot().timed_out == 1


async def test_a_call_may_bring_its_own_patience() -> None:
    """`timeout` replaces `queue_timeout`; with 0 a call gets a free slot or is turned away."""
    calls = limiter()
    with calls.join(timeout=0) as turn:
        assert turn.held
        with calls.join(timeout=0) as none, pytest.raises(QueueTimeout):
            await none.granted()
        with calls.join(timeout=2.0) as impatient, pytest.raises(QueueTimeout):
            await impatient.granted()
        assert asyncio.get_running_loop().time() == 2.0


async def test_a_slot_granted_to_a_canceled_waiter_goes_to_the_next() -> None:
    """Cancelled after the grant and before it has run again, a waiter passes the slot on."""
    calls = limiter()
    first = calls.join()
    waiters = [asyncio.create_task(hold(calls)) for _ in range(2)]
    await asyncio.sleep(0)
    first.leave()  # grants the slot to waiters[0], whose task has not run yet
    waiters[0].cancel()
    await asyncio.wait(waiters)
    assert waiters[0].cancelled()
    assert waiters[1].exception() is None
    assert calls.in_flight == 0


async def test_a_canceled_holder_gives_its_slot_back() -> None:
    """Cancellation of a call in flight wakes the one who waits."""
    calls = limiter()
    holder, waiter = (asyncio.create_task(hold(calls, seconds=60.0)) for _ in range(2))
    await asyncio.sleep(0)
    assert calls.snapshot().queued == 1
    holder.cancel()
    await asyncio.wait([holder])
    assert (calls.in_flight, calls.snapshot().queued) == (1, 0)
    waiter.cancel()
    await asyncio.wait([waiter])


async def test_the_slot_comes_back_when_the_block_fails() -> None:
    """An error passes through `slot` and leaves nothing behind."""
    calls = limiter()
    with pytest.raises(OSError, match="reset"):
        async with calls.slot():
            raise OSError("reset")
    assert calls.in_flight == 0


async def test_leaving_counts_once() -> None:
    """A second `leave` does nothing, and a turn that was left cannot be waited for."""
    calls = limiter(2)
    with calls.join(), calls.join() as turn:
        turn.leave()
        turn.leave()
        assert calls.in_flight == 1
        with pytest.raises(RuntimeError, match="left"):
            await turn.granted()
    assert calls.in_flight == 0


async def test_raising_the_limit_admits_waiters() -> None:
    """Each new slot goes to a waiter at once."""
    calls = limiter()
    with calls.join(), calls.join() as second, calls.join() as third, calls.join() as fourth:
        calls.limit = 3
        assert [second.held, third.held, fourth.held] == [True, True, False]


async def test_lowering_the_limit_lets_holders_finish() -> None:
    """Nobody is interrupted, and nobody admitted before the holders are fewer than the limit."""
    calls = limiter(3)
    with calls.join() as first, calls.join() as second, calls.join(), calls.join() as waiter:
        calls.limit = 2
        assert calls.in_flight == 3
        first.leave()
        assert not waiter.held
        second.leave()
        assert waiter.held


async def test_a_greedy_key_delays_others_by_one_round() -> None:
    """Behind 500 waiting requests of one key, another key's first gets the next slot but one."""
    calls = limiter()
    with ExitStack() as stack:
        first = stack.enter_context(calls.join("greedy"))
        greedy = [stack.enter_context(calls.join("greedy")) for _ in range(500)]
        modest = stack.enter_context(calls.join("modest"))
        first.leave()
        greedy[0].leave()
        assert modest.held


async def test_a_late_slot_is_not_wasted_on_a_waiter_past_its_deadline() -> None:
    """A waiter that is stuck elsewhere beyond its deadline is passed over."""
    calls = limiter(queue_timeout=5.0)
    with calls.join() as first, calls.join() as stuck:
        await asyncio.sleep(6.0)  # as in a send to a client that does not read
        with calls.join() as alive:
            first.leave()
            assert alive.held
        assert not stuck.held
        with pytest.raises(QueueTimeout):
            await stuck.granted()
    assert calls.snapshot().timed_out == 1


async def test_a_limit_below_one_is_an_error() -> None:
    """A limiter that admits nobody would be a trap; use `pause`."""
    with pytest.raises(ValueError, match="limit is 0"):
        limiter(0)
    calls = limiter()
    with pytest.raises(ValueError, match="limit is 0"):
        calls.limit = 0


async def test_a_snapshot_tells_state_and_history() -> None:
    """Each call is in one count, and queue wait is added up."""
    calls = limiter(max_queue=2)
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(calls, seconds=2.0))
        group.create_task(hold(calls, seconds=1.0))
        leaver = group.create_task(hold(calls))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            calls.join()
        leaver.cancel()
    state = calls.snapshot()
    assert (state.limit, state.in_flight, state.queued) == (1, 0, 0)
    assert (state.granted, state.released, state.refused, state.abandoned) == (2, 2, 1, 1)
    assert state.waited == 2.0
