"""The window in memory keeps the contract, in every history and in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ratelimit.base import Budget, RateLimited, Reservation, costs_of
from app.ratelimit.memory import SWEEP_EVERY, RateLimiter
from tests.ratelimit.contract import START, RateLimiterContract, Window, requests, tokens

WINDOW = 60_000_000
BUCKET = WINDOW // 60
BUDGETS = (
    Budget("tier", "tokens", 100),
    Budget("tier", "requests", 7),
    Budget("client", "tokens", 40),
)

some_budgets = st.lists(st.sampled_from(BUDGETS), min_size=1, unique=True)
durations = st.one_of(
    st.integers(0, 2 * BUCKET),
    st.integers(0, 2 * WINDOW),
    st.integers(0, 61).map(lambda buckets: buckets * BUCKET),
)


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
    return Window(RateLimiter(clock=clock), clock.advance, settled)


async def settled() -> None:
    """Return at once: in memory, settlements count at once."""


class TestMemory(RateLimiterContract):
    """The contract, held by the window in memory."""


async def test_check(window: Window) -> None:
    """Before a call queues, `check` refuses as `reserve` would, and reserves nothing."""
    for _ in range(3):
        window.limiter.check([tokens(10), requests(1)])
    await window.admits(tokens(10), requests(1), tokens=10)
    await window.advance(5)
    with pytest.raises(RateLimited) as refusal:
        window.limiter.check([requests(5, "client"), tokens(10)])
    assert (refusal.value.budget, refusal.value.retry_after) == (tokens(10), 55.7)


async def test_idle_budgets_are_forgotten() -> None:
    """Budgets that are no longer used, or were only checked, take no memory."""
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    for client in range(2 * SWEEP_EVERY):
        await limiter.reserve([requests(5, f"client:{client}")], tokens=1)
    await clock.advance(61)
    for client in range(3 * SWEEP_EVERY):
        limiter.check([requests(5, f"client:{client % 10}")])
    assert len(limiter._ledgers) == 10


@dataclass
class Admission:
    """When a call was admitted, and what it costs as far as settled."""

    at: int
    budgets: Sequence[Budget]
    tokens: int
    reservation: Reservation | None


calls = st.tuples(durations, some_budgets, st.integers(0, 40), st.integers(0, 40), st.floats(0, 1))


@settings(max_examples=25)
@given(st.lists(calls, min_size=20, max_size=60))
async def test_every_window_holds(
    history: list[tuple[int, Sequence[Budget], int, int, float]],
) -> None:
    """No window holds more than the limit, nothing is refused needlessly, each wait is exact.

    A refused call would not fit into the window and the bucket that its start cuts.
    """
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    log: list[Admission] = []

    def used(budget: Budget, since: int) -> int:
        recent = [one for one in log if one.at >= since and budget in one.budgets]
        return sum(one.tokens if budget.unit == "tokens" else 1 for one in recent)

    async def reserve(budgets: Sequence[Budget], tokens: int) -> float | None:
        now = clock.microseconds
        try:
            reservation = await limiter.reserve(budgets, tokens=tokens)
        except RateLimited as refusal:
            since = (now - WINDOW) // BUCKET * BUCKET
            costs = costs_of(budgets, tokens=tokens)
            assert any(
                used(b, since) + cost > b.limit for b, cost in zip(budgets, costs, strict=True)
            )
            return refusal.retry_after
        log.append(Admission(now, budgets, tokens, reservation))
        assert all(used(b, now - WINDOW + 1) <= b.limit for b in budgets)
        return None

    for duration, budgets, cost, index, part in history:
        clock.microseconds += duration
        if wait := await reserve(budgets, cost):
            clock.microseconds += round(wait * 1_000_000) - 1
            assert await reserve(budgets, cost)
            clock.microseconds += 1
            assert await reserve(budgets, cost) is None
        for admission in log[index : index + 1]:
            if admission.reservation is not None:
                admission.tokens = int(admission.tokens * part)
                admission.reservation.settle(tokens=admission.tokens)
                admission.reservation = None
