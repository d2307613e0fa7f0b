"""What the limiter promises to calls that are prepared before they need a slot."""

import asyncio
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.concurrency.limiter import ConcurrencyLimiter, QueueFull, QueueTimeout

STEPS = st.lists(st.sampled_from(["expect", "arrive", "join", "leave"]), max_size=60)


def limiter(limit: int = 1, max_queue: int = 1) -> ConcurrencyLimiter:
    """Make a limiter whose waits end after 30 s."""
    return ConcurrencyLimiter(limit, max_queue=max_queue, queue_timeout=30.0)


async def test_it_holds_no_slot() -> None:
    """While one call is prepared, another has the slot."""
    calls = limiter()
    with calls.expecting(), calls.join() as other:
        assert other.held
        assert calls.in_flight == 1


async def test_no_more_are_expected_than_could_wait() -> None:
    """Who could not even wait afterwards is refused before anything is prepared."""
    calls = limiter(limit=1, max_queue=1)
    with calls.expecting(), calls.expecting():
        with pytest.raises(QueueFull, match="1 calls are waiting, of 1 that may"):
            calls.expecting().__enter__()
        with pytest.raises(QueueFull):
            calls.join()
    assert calls.snapshot().refused == 2


async def test_a_key_cannot_expect_more_than_it_may_have_waiting() -> None:
    """The bound of a key counts what it prepares; another key is not refused by it."""
    calls = ConcurrencyLimiter(1, max_queue=9, max_queue_per_key=1, queue_timeout=30.0)
    with calls.join("a"), calls.expecting("a"):
        with pytest.raises(QueueFull, match="of this key"):
            calls.join("a")
        assert calls.join("b").position == 1


async def test_a_pause_that_is_too_long_refuses_at_once() -> None:
    """Nothing is prepared for a call that cannot make its deadline."""
    calls = limiter()
    calls.pause(60)
    with pytest.raises(QueueTimeout) as refusal:
        calls.expecting().__enter__()
    assert refusal.value.retry_after == pytest.approx(60)


async def test_a_cancelled_preparation_gives_its_place_back() -> None:
    """However the block ends, its place is free afterwards."""
    calls = limiter(limit=1, max_queue=0)

    async def prepare() -> None:
        with calls.expecting():
            await asyncio.Event().wait()

    task = asyncio.create_task(prepare())
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        calls.join()
    task.cancel()
    await asyncio.wait([task])
    assert calls.join().held


@given(STEPS, st.integers(1, 3), st.integers(0, 3))
def test_who_was_expected_finds_room(steps: list[str], limit: int, max_queue: int) -> None:
    """Whatever others do meanwhile, `join` right after the block is not refused."""

    async def go() -> None:
        calls = limiter(limit, max_queue)
        expected: list[ExitStack] = []
        turns = []
        for step in steps:
            try:
                if step == "expect":
                    place = ExitStack()
                    place.enter_context(calls.expecting())
                    expected.append(place)
                elif step == "join":
                    turns.append(calls.join())
            except QueueFull:
                continue
            if step == "arrive" and expected:
                expected.pop().close()
                turns.append(calls.join())
            elif step == "leave" and turns:
                turns.pop(0).leave()
            assert calls.in_flight <= limit
            assert calls.snapshot().queued <= max_queue

    asyncio.run(go())
