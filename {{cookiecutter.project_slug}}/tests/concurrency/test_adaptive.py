"""The adaptive limit finds what the provider serves and follows it; on a virtual clock."""

import asyncio
from contextlib import ExitStack
from random import Random

import pytest

from app.concurrency import adaptive
from app.concurrency.adaptive import AdaptiveLimit
from app.concurrency.limiter import ConcurrencyLimiter


def make(limit: int, maximum: int) -> tuple[ConcurrencyLimiter, AdaptiveLimit]:
    """Make a limiter with its adaptive limit."""
    limiter = ConcurrencyLimiter(limit, max_queue=100, queue_timeout=1e9)
    return limiter, AdaptiveLimit(limiter, maximum=maximum)


@pytest.mark.parametrize(("seed", "start"), [(1, 1), (2, 60)])
async def test_finds_and_follows_the_limit(
    monkeypatch: pytest.MonkeyPatch, seed: int, start: int
) -> None:
    """A provider that serves 12 is held between 9 and 14; when it recovers to 40, so does it."""
    rng = Random(seed)
    monkeypatch.setattr(adaptive, "random", rng.random)
    limiter, limit = make(start, maximum=60)
    capacity = live = served = refused = 0

    async def call_again_and_again() -> None:
        nonlocal live, served, refused
        while True:
            async with limiter.slot():
                started_at = asyncio.get_running_loop().time()
                if live >= capacity:
                    await asyncio.sleep(0.05)
                    limit.on_overload(started_at)
                    refused += 1
                    continue
                live += 1
                await asyncio.sleep(rng.uniform(0.2, 0.8))  # to the first token
                limit.on_success(started_at)
                await asyncio.sleep(rng.expovariate(1 / 3.0))
                live -= 1
                served += 1

    async with asyncio.TaskGroup() as group:
        users = [group.create_task(call_again_and_again()) for _ in range(100)]
        for serves, warm_up, low, high in [(12, 60.0, 9, 14), (40, 240.0, 31, 42)]:
            capacity = serves
            await asyncio.sleep(warm_up)
            served = refused = within = 0
            for _ in range(6000):
                await asyncio.sleep(0.1)
                within += low <= limiter.in_flight <= high
            assert within >= 0.95 * 6000
            assert refused < 0.02 * (served + refused)
        for user in users:
            user.cancel()


async def succeed(
    limiter: ConcurrencyLimiter, limit: AdaptiveLimit, *, calls: int, in_flight: int | None = None
) -> int:
    """Report so many successes, with so many or the whole limit in flight; return the limit."""
    with ExitStack() as stack:
        while limiter.in_flight < (in_flight or limiter.limit):
            stack.enter_context(limiter.acquire())
        for _ in range(calls):
            await asyncio.sleep(1.0)
            limit.on_success(asyncio.get_running_loop().time())
    return limiter.limit


@pytest.mark.parametrize(
    ("calls", "in_flight", "expected"),
    [(5, 6, 6), (6, 6, 7), (6, 3, 7), (100, 2, 6), (100, 6, 8)],
    ids=["too few", "a round", "half in use", "less than half in use", "the maximum"],
)
async def test_increase(calls: int, in_flight: int, expected: int) -> None:
    """As many successes as the limit is high, with half of it in use, add 1, to the maximum."""
    limiter, limit = make(6, maximum=8)
    assert await succeed(limiter, limit, calls=calls, in_flight=in_flight) == expected


async def test_decrease() -> None:
    """A refusal takes a fifth off, once per round trip, down to 1; earlier successes are void."""
    limiter, limit = make(20, maximum=20)
    await asyncio.sleep(1.0)
    for started_at, expected in [(0.5, 16), (0.6, 16), (1.0, 16), (1.1, 12), (1.2, 12)]:
        limit.on_overload(started_at)
        assert limiter.limit == expected
        await asyncio.sleep(0.5)
    with limiter.acquire(), limiter.acquire():
        limiter.limit = 4
        for _ in range(100):
            limit.on_success(started_at=1.2)
    assert limiter.limit == 4
    limiter.limit = 1
    limit.on_overload(started_at=4.0)
    assert limiter.limit == 1


@pytest.mark.parametrize(("number", "rounds"), [(0.0, 8), (0.5, 12), (1.0, 16)])
async def test_trial(monkeypatch: pytest.MonkeyPatch, number: float, rounds: int) -> None:
    """The limit that was refused is tried again after 8 to 16 rounds, the next ones after one."""
    monkeypatch.setattr(adaptive, "random", lambda: number)
    limiter, limit = make(5, maximum=20)
    await asyncio.sleep(1.0)
    limit.on_overload(started_at=0.5)
    for calls, expected in [(4 * rounds - 1, 4), (1, 5), (5, 6)]:
        assert await succeed(limiter, limit, calls=calls) == expected


async def test_retry_after_is_a_pause() -> None:
    """A Retry-After pauses the limiter, whatever call it came with, for at most 60 s."""
    limiter, limit = make(4, maximum=20)
    await asyncio.sleep(1.0)
    for started_at, retry_after, until in [(0.5, 5.0, 6.0), (0.6, 3600.0, 66.0)]:
        limit.on_overload(started_at, retry_after)
        async with limiter.slot():
            assert asyncio.get_running_loop().time() == until
    assert limiter.limit == 3
