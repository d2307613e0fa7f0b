"""A search is over for its caller in time, and what it leaves behind is bounded."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from app.retrieval.searches import GRACE, MOST_LEFT, Searches

from .sources import FakeSource, cleans_up, ignores_cancellation, takes


async def failure_of(searches: Searches, source: FakeSource) -> str:
    """Run one search for a second and tell how it failed."""
    outcome = await searches.run(source, "why?", limit=5, within=1)
    return repr(outcome) if isinstance(outcome, Exception) else ""


async def test_a_source_whose_searches_do_not_end_is_not_asked_for_ever() -> None:
    """With MOST_LEFT searches left behind the source is refused, until one of them has ended."""
    end = asyncio.Event()
    stubborn = FakeSource("stubborn", ignores_cancellation(until=end))
    async with Searches() as searches:
        async with asyncio.TaskGroup() as group:
            for _ in range(MOST_LEFT):
                group.create_task(failure_of(searches, stubborn))
        assert stubborn.running == MOST_LEFT
        assert "do not end" in await failure_of(searches, stubborn)
        assert len(stubborn.asked) == MOST_LEFT
        assert await failure_of(searches, FakeSource("other", takes(0))) == ""
        end.set()
        await asyncio.sleep(1)
        assert await failure_of(searches, stubborn) == ""


async def test_a_late_search_that_cleans_up_is_cancelled_once() -> None:
    """Cleaning up is not interrupted, neither by the grace nor by a caller that is cancelled."""
    source = FakeSource("a", cleans_up(GRACE / 2))
    loop = asyncio.get_running_loop()
    async with Searches() as searches:
        call = asyncio.create_task(failure_of(searches, source))
        await asyncio.sleep(1 + GRACE / 4)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        assert (source.running, loop.time()) == (0, 1 + GRACE / 2)


async def test_closing_cancels_what_was_left_behind_once_more() -> None:
    """A search that heeds only its second cancellation ends when the searches close."""
    ended = asyncio.Event()

    async def heeds_the_second() -> None:
        try:
            await cleans_up(1e9)()
        finally:
            ended.set()

    async with Searches() as searches:
        await failure_of(searches, FakeSource("a", heeds_the_second))
        assert not ended.is_set()
    assert ended.is_set()


async def test_closing_hands_on_the_error_of_the_block() -> None:
    """An error in the block is raised as it is; the searches are closed all the same."""
    source = FakeSource("a", cleans_up(1e9))

    async def breaks() -> None:
        async with Searches() as searches:
            await failure_of(searches, source)
            raise LookupError

    with pytest.raises(LookupError):
        await breaks()
    assert source.running == 0


async def test_closing_waits_for_callers_that_still_search() -> None:
    """A search whose caller is still there goes on to its end."""
    async with AsyncExitStack() as stack:
        searches = await stack.enter_async_context(Searches())
        call = asyncio.create_task(failure_of(searches, FakeSource("a", takes(0.5))))
        await asyncio.sleep(0)
    assert await call == ""
