"""The adaptive limit finds what the provider serves and follows it; on a virtual clock."""

import asyncio
from contextlib import ExitStack
from random import Random

import pytest

from app.concurrency import adaptive
from app.concurrency.adaptive import AdaptiveLimit
from app.concurrency.limiter import ConcurrencyLimiter


class Overloaded(Exception):  # noqa: N818
    """The simulated provider's 429."""


class SimulatedProvider:
    """Serves `capacity` calls at once, from the first token to the last, and refuses others."""

    def __init__(self, capacity: int, rng: Random) -> None:
        self.capacity = capacity
        self.rng = rng
        self.live = self.served = self.refused = 0

    async def first_token(self) -> None:
        """Accept the call, or refuse it after a short while."""
        if self.live >= self.capacity:
            self.refused += 1
            await asyncio.sleep(0.05)
            raise Overloaded
        self.live += 1
        await asyncio.sleep(self.rng.uniform(0.2, 0.8))

    async def rest(self) -> None:
        """Stream for a while, at times for long."""
        await asyncio.sleep(self.rng.expovariate(1 / 3.0))
        self.live -= 1
        self.served += 1


async def user(
    limiter: ConcurrencyLimiter, limit: AdaptiveLimit, provider: SimulatedProvider
) -> None:
    """Call again and again, also after a refusal."""
    loop = asyncio.get_running_loop()
    while True:
        async with limiter.slot(within=1e9):
            started_at = loop.time()
            try:
                await provider.first_token()
            except Overloaded:
                limit.on_overload(started_at)
            else:
                limit.on_success(started_at)
                await provider.rest()


@pytest.mark.parametrize(("seed", "start"), [(1, 1), (2, 60)])
async def test_finds_and_follows_the_limit(
    monkeypatch: pytest.MonkeyPatch, seed: int, start: int
) -> None:
    """A provider that serves 12 is held between 9 and 14; when it recovers to 40, so does it."""
    rng = Random(seed)
    monkeypatch.setattr(adaptive, "random", rng.random)
    limiter = ConcurrencyLimiter(start, max_queue=100, queue_timeout=1e9)
    limit = AdaptiveLimit(limiter, maximum=60)
    provider = SimulatedProvider(12, rng)
    users = [asyncio.create_task(user(limiter, limit, provider)) for _ in range(100)]
    for capacity, warm_up, low, high in [(12, 60.0, 9, 14), (40, 240.0, 31, 42)]:
        provider.capacity = capacity
        await asyncio.sleep(warm_up)
        provider.served = provider.refused = within = 0
        for _ in range(6000):
            await asyncio.sleep(0.1)
            within += low <= limiter.in_flight <= high
        assert within >= 0.95 * 6000
        assert provider.refused < 0.02 * (provider.served + provider.refused)
    for task in users:
        task.cancel()
    await asyncio.wait(users)


def make(limit: int, maximum: int = 20) -> tuple[ConcurrencyLimiter, AdaptiveLimit]:
    """Make a limiter with its adaptive limit."""
    limiter = ConcurrencyLimiter(limit, max_queue=1, queue_timeout=1e9)
    return limiter, AdaptiveLimit(limiter, maximum=maximum)


async def succeed(
    limiter: ConcurrencyLimiter, limit: AdaptiveLimit, *, calls: int, in_flight: int | None = None
) -> None:
    """Report so many calls, one after another, with so many or the whole limit in flight."""
    with ExitStack() as stack:
        while limiter.in_flight < (in_flight or limiter.limit):
            stack.enter_context(limiter.acquire())
        for _ in range(calls):
            await asyncio.sleep(1.0)
            limit.on_success(asyncio.get_running_loop().time())


@pytest.mark.parametrize(
    ("calls", "in_flight", "expected"),
    [(5, 6, 6), (6, 6, 7), (6, 3, 7), (100, 2, 6), (100, 6, 8)],
    ids=["too few", "a round", "half in use", "less than half in use", "the maximum"],
)
async def test_increase(calls: int, in_flight: int, expected: int) -> None:
    """As many successes as the limit is high, with half of it in use, add 1, to the maximum."""
    limiter, limit = make(6, maximum=8)
    await succeed(limiter, limit, calls=calls, in_flight=in_flight)
    assert limiter.limit == expected


async def test_one_decrease_per_round_trip() -> None:
    """Refusals of calls that began before the last decrease do not count, down to a limit of 1."""
    limiter, limit = make(20)
    for now, started_at, expected in [
        (1.0, 0.5, 16), (1.0, 0.6, 16), (2.0, 0.9, 16), (2.0, 1.1, 12), (3.0, 3.0, 9),
    ]:  # fmt: skip
        await asyncio.sleep(now - asyncio.get_running_loop().time())
        limit.on_overload(started_at)
        assert limiter.limit == expected
    limiter.limit = 1
    await asyncio.sleep(1.0)
    limit.on_overload(started_at=4.0)
    assert limiter.limit == 1


async def test_success_under_an_earlier_limit() -> None:
    """Calls that began before a decrease are no reason to raise the limit."""
    limiter, limit = make(5)
    await asyncio.sleep(1.0)
    limit.on_overload(started_at=0.5)
    with limiter.acquire(), limiter.acquire():
        for _ in range(100):
            limit.on_success(started_at=0.9)
    assert limiter.limit == 4


@pytest.mark.parametrize(("number", "rounds"), [(0.0, 8), (0.5, 12), (1.0, 16)])
async def test_trial(monkeypatch: pytest.MonkeyPatch, number: float, rounds: int) -> None:
    """The limit that was refused is tried again after 8 to 16 rounds, the next ones after one."""
    monkeypatch.setattr(adaptive, "random", lambda: number)
    limiter, limit = make(5)
    await asyncio.sleep(1.0)
    limit.on_overload(started_at=0.5)
    for calls, expected in [(4 * rounds - 1, 4), (1, 5), (5, 6)]:
        await succeed(limiter, limit, calls=calls)
        assert limiter.limit == expected


async def test_retry_after_is_a_pause() -> None:
    """A Retry-After pauses the limiter, whatever call it came with, for at most 60 s."""
    limiter, limit = make(4)
    await asyncio.sleep(1.0)
    for started_at, retry_after, until in [(0.5, 5.0, 6.0), (0.6, 3600.0, 66.0)]:
        limit.on_overload(started_at, retry_after)
        async with limiter.slot():
            assert asyncio.get_running_loop().time() == until
    assert limiter.limit == 3
