"""The window in memory keeps the contract, in every history and in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ratelimit.base import Budget, RateLimited, Reservation
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
    """A line of the log: when a call was admitted, and what it costs as far as settled."""

    at: int
    budgets: Sequence[Budget]
    tokens: int
    reservation: Reservation
    settled: bool = False


class Log:
    """A limiter with a log of what it admitted, by which every decision is judged."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.admissions: list[Admission] = []
        self.limiter = RateLimiter(clock=self.clock)

    async def reserve(self, budgets: Sequence[Budget], tokens: int) -> float | None:
        """Reserve, judge the decision, and return the wait if it is a refusal."""
        now = self.clock.microseconds
        try:
            reservation = await self.limiter.reserve(budgets, tokens=tokens)
        except RateLimited as refusal:
            since = (now - WINDOW) // BUCKET * BUCKET
            assert any(self._sum(b, since) + self._cost(b, tokens) > b.limit for b in budgets)
            return refusal.retry_after
        self.admissions.append(Admission(now, budgets, tokens, reservation))
        assert all(self._sum(b, now - WINDOW + 1) <= b.limit for b in budgets)
        return None

    def settle(self, index: int, part: float) -> None:
        """Settle an admission, unless that was done before, with a part of its estimate."""
        for admission in self.admissions[index : index + 1]:
            if not admission.settled:
                tokens = int(admission.tokens * part)
                admission.reservation.settle(tokens=tokens)
                admission.tokens, admission.settled = tokens, True

    def _sum(self, budget: Budget, since: int) -> int:
        return sum(
            self._cost(budget, admission.tokens)
            for admission in self.admissions
            if admission.at >= since and budget in admission.budgets
        )

    def _cost(self, budget: Budget, tokens: int) -> int:
        return tokens if budget.unit == "tokens" else 1


calls = st.tuples(durations, some_budgets, st.integers(0, 40), st.integers(0, 40), st.floats(0, 1))


@settings(max_examples=25)
@given(st.lists(calls, min_size=20, max_size=60))
async def test_every_window_holds(
    history: list[tuple[int, Sequence[Budget], int, int, float]],
) -> None:
    """No window holds more than the limit, nothing is refused needlessly, each wait is exact.

    A refused call would not fit into the window and the bucket that its start cuts.
    """
    log = Log()
    for duration, budgets, cost, index, part in history:
        log.clock.microseconds += duration
        if wait := await log.reserve(budgets, cost):
            log.clock.microseconds += round(wait * 1_000_000) - 1
            assert await log.reserve(budgets, cost)
            log.clock.microseconds += 1
            assert await log.reserve(budgets, cost) is None
        log.settle(index, part)
