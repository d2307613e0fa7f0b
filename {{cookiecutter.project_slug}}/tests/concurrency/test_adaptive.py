"""The ceiling finds what the provider bears and follows it; simulated on a virtual clock."""

import asyncio
from contextlib import ExitStack
from random import Random

import pytest

from app.concurrency.adaptive import AdaptiveCeiling
from app.concurrency.limiter import ConcurrencyLimiter


class Overloaded(Exception):  # noqa: N818
    """The simulated provider's 429."""


class SimulatedProvider:
    """Serves `capacity` calls at once, from the first token to the last, and 429s beyond that."""

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
        """Stream for a while, at times a long one."""
        await asyncio.sleep(self.rng.expovariate(1 / 3.0))
        self.live -= 1
        self.served += 1


async def user(
    limiter: ConcurrencyLimiter, ceiling: AdaptiveCeiling, provider: SimulatedProvider
) -> None:
    """Call again and again; come back after a refusal."""
    loop = asyncio.get_running_loop()
    while True:
        async with limiter.slot(timeout=1e9):
            started_at = loop.time()
            try:
                await provider.first_token()
            except Overloaded:
                ceiling.on_overload(started_at)
            else:
                ceiling.on_success(started_at)
                await provider.rest()


async def watch(limiter: ConcurrencyLimiter, seconds: float) -> list[int]:
    """Sample the calls in flight, ten times a second."""
    samples = []
    for _ in range(int(seconds * 10)):
        await asyncio.sleep(0.1)
        samples.append(limiter.in_flight)
    return samples


def share(samples: list[int], low: int, high: int) -> float:
    """Return the part of the samples from `low` to `high`."""
    return sum(low <= sample <= high for sample in samples) / len(samples)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("start", [1, 60])
async def test_the_limit_is_found_held_and_followed(seed: int, start: int) -> None:
    """A provider that serves 12 is held between 9 and 14; when it recovers to 40, so does it."""
    rng = Random(seed)
    limiter = ConcurrencyLimiter(start, max_queue=100, queue_timeout=1e9)
    ceiling = AdaptiveCeiling(limiter, maximum=60, jitter=rng.random)
    provider = SimulatedProvider(12, rng)
    users = [asyncio.create_task(user(limiter, ceiling, provider)) for _ in range(100)]
    for capacity, warm_up, low, high in [(12, 60.0, 9, 14), (40, 240.0, 31, 42)]:
        provider.capacity = capacity
        await asyncio.sleep(warm_up)
        provider.served = provider.refused = 0
        in_flight = await watch(limiter, seconds=600.0)
        assert share(in_flight, low, high) >= 0.95
        assert provider.refused < 0.02 * (provider.served + provider.refused)
    for task in users:
        task.cancel()
    await asyncio.wait(users)
    assert limiter.in_flight == 0


async def succeed(limiter: ConcurrencyLimiter, ceiling: AdaptiveCeiling, *, calls: int) -> None:
    """Report so many calls, begun one after another, with the whole limit in flight."""
    with ExitStack() as stack:
        while limiter.in_flight < limiter.limit:
            stack.enter_context(limiter.join())
        for _ in range(calls):
            await asyncio.sleep(1.0)
            ceiling.on_success(asyncio.get_running_loop().time())


def adaptive(
    limit: int, maximum: int = 20, jitter: float = 0.0
) -> tuple[ConcurrencyLimiter, AdaptiveCeiling]:
    """Make a limiter with its ceiling."""
    limiter = ConcurrencyLimiter(limit, max_queue=0, queue_timeout=30.0)
    return limiter, AdaptiveCeiling(limiter, maximum=maximum, jitter=lambda: jitter)


async def test_a_round_of_successes_adds_one() -> None:
    """It takes as many successes as the limit is high, and stops at the maximum."""
    limiter, ceiling = adaptive(5, maximum=6)
    await succeed(limiter, ceiling, calls=4)
    assert limiter.limit == 5
    await succeed(limiter, ceiling, calls=1)
    assert limiter.limit == 6
    await succeed(limiter, ceiling, calls=100)
    assert limiter.limit == 6


async def test_a_limit_that_is_not_used_does_not_grow() -> None:
    """Successes with less than half of the limit in flight prove nothing; with half they do."""
    limiter, ceiling = adaptive(6)
    with limiter.join(), limiter.join():
        for _ in range(100):
            ceiling.on_success(1.0)
        assert limiter.limit == 6
        with limiter.join():
            for _ in range(6):
                ceiling.on_success(1.0)
            assert limiter.limit == 7


async def test_one_decrease_a_round_trip() -> None:
    """Refusals of calls that began before the last decrease are the same news again."""
    limiter, ceiling = adaptive(20)
    await asyncio.sleep(1.0)
    for _ in range(8):
        ceiling.on_overload(started_at=0.5)
    assert limiter.limit == 16
    await asyncio.sleep(1.0)
    ceiling.on_overload(started_at=0.9)
    assert limiter.limit == 16
    ceiling.on_overload(started_at=1.1)
    assert limiter.limit == 12


async def test_the_limit_never_falls_below_one() -> None:
    """Somebody has to find out when the provider is back."""
    limiter, ceiling = adaptive(2)
    for _ in range(5):
        await asyncio.sleep(1.0)
        ceiling.on_overload(asyncio.get_running_loop().time())
    assert limiter.limit == 1


async def test_a_success_under_an_earlier_limit_does_not_count() -> None:
    """Calls that began before a decrease do not argue against it."""
    limiter, ceiling = adaptive(5)
    await asyncio.sleep(1.0)
    ceiling.on_overload(started_at=0.5)
    assert limiter.limit == 4
    with limiter.join(), limiter.join():
        for _ in range(100):
            ceiling.on_success(started_at=0.9)
    assert limiter.limit == 4


@pytest.mark.parametrize(("jitter", "rounds"), [(0.0, 8), (0.5, 12), (1.0, 16)])
async def test_what_was_refused_is_tried_again_later(jitter: float, rounds: int) -> None:
    """Below the refused limit it takes 8 to 16 rounds of successes, and beyond it one each."""
    limiter, ceiling = adaptive(5, jitter=jitter)
    await asyncio.sleep(1.0)
    ceiling.on_overload(started_at=0.5)
    await succeed(limiter, ceiling, calls=4 * rounds - 1)
    assert limiter.limit == 4
    await succeed(limiter, ceiling, calls=1)
    assert limiter.limit == 5
    await succeed(limiter, ceiling, calls=5)
    assert limiter.limit == 6


async def test_the_providers_retry_after_is_a_pause() -> None:
    """Nothing is sent until then, whatever call it came with; at most for `longest_pause`."""
    limiter = ConcurrencyLimiter(4, max_queue=1, queue_timeout=1e9)
    ceiling = AdaptiveCeiling(limiter, maximum=4, longest_pause=60.0)
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(1.0)
    ceiling.on_overload(started_at=0.5, retry_after=5.0)
    async with limiter.slot():
        assert clock() == 6.0
    ceiling.on_overload(started_at=0.6, retry_after=3600.0)
    assert limiter.limit == 3
    async with limiter.slot():
        assert clock() == 66.0
