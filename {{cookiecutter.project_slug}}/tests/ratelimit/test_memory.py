"""The window in this process keeps the contract, in bounded memory."""

import pytest

from app.ratelimit.memory import SWEEP_EVERY, MemoryRateLimiter
from app.ratelimit.protocol import RateLimited
from tests.ratelimit.contract import START, RateLimiterContract, Window, requests, tokens


class Clock:
    """A clock in nanoseconds that the test moves."""

    def __init__(self) -> None:
        self.microseconds = START

    def __call__(self) -> int:
        """Return the time in nanoseconds."""
        return self.microseconds * 1000

    async def advance(self, seconds: float) -> None:
        """Move it forward."""
        self.microseconds += round(seconds * 1_000_000)


@pytest.fixture
def window() -> Window:
    """Return a fresh limiter on a clock of its own."""
    clock = Clock()
    return Window(MemoryRateLimiter(clock=clock), clock.advance, settled)


async def settled() -> None:
    """Return at once: in memory, what is settled is counted at once."""


class TestMemory(RateLimiterContract):
    """The contract, held by the window in memory."""


async def test_idle_budgets_are_forgotten() -> None:
    """Budgets that nobody uses any more take no memory, however many there were."""
    clock = Clock()
    limiter = MemoryRateLimiter(clock=clock)
    for client in range(3 * SWEEP_EVERY):
        await limiter.reserve([requests(5, f"client:{client}")], tokens=1)
    assert limiter.budgets == 3 * SWEEP_EVERY
    await clock.advance(61)
    for _ in range(3 * SWEEP_EVERY):
        await limiter.reserve([requests(10**6)], tokens=1)
    assert limiter.budgets == 1


async def test_budgets_only_looked_at_are_forgotten() -> None:
    """Nor does it take memory for long to be checked at the door, or refused for another budget."""
    limiter = MemoryRateLimiter(clock=Clock())
    await limiter.reserve([tokens(1)], tokens=1)
    for client in range(3 * SWEEP_EVERY):
        limiter.check([requests(5, f"client:{client}")])
        with pytest.raises(RateLimited):
            await limiter.reserve([tokens(1), requests(5, f"caller:{client}")], tokens=1)
    assert limiter.budgets <= 2 * SWEEP_EVERY


async def test_admitted_elsewhere_counts_even_beyond_the_limit() -> None:
    """What was admitted elsewhere is counted here also where it does not fit, and settles."""
    limiter = MemoryRateLimiter(clock=Clock())
    reservation = limiter.record([tokens(100)], tokens=130)
    assert reservation.standings[0].remaining == 0
    reservation.settle(tokens=90)
    await limiter.reserve([tokens(100)], tokens=10)


async def test_use_is_told_from_a_time_on() -> None:
    """What was used since a time includes the whole bucket of that time, and no older one."""
    clock = Clock()
    limiter = MemoryRateLimiter(clock=clock)
    for cost in (1, 20, 300):
        await clock.advance(1)
        await limiter.reserve([tokens(1000)], tokens=cost)
    assert limiter.used(tokens(1000), since=clock() - 1_000_000_000) == 320
    assert limiter.used(tokens(1000), since=clock()) == 300
