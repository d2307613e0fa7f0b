"""After any history the limit holds in every window, and no more is refused than must be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from app.ratelimit.memory import MemoryRateLimiter
from app.ratelimit.protocol import Budget, RateLimited, Reservation
from tests.ratelimit.contract import START
from tests.ratelimit.history import (
    BUCKET,
    WINDOW,
    Player,
    Step,
    durations,
    histories,
    some_budgets,
)


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
        self.now = START
        self.admissions: list[Admission] = []
        self.limiter = MemoryRateLimiter(clock=lambda: self.now * 1000)

    async def reserve(self, budgets: Sequence[Budget], tokens: int) -> None:
        """Reserve: a window holds what was admitted, and a bucket more what was refused."""
        try:
            reservation = await self.limiter.reserve(budgets, tokens=tokens)
        except RateLimited:
            since = (self.now - WINDOW) // BUCKET * BUCKET
            assert any(self._sum(b, since) + self._cost(b, tokens) > b.limit for b in budgets)
        else:
            self.admissions.append(Admission(self.now, budgets, tokens, reservation))
            assert all(self._sum(b, self.now - WINDOW + 1) <= b.limit for b in budgets)

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


@settings(deadline=None)
@given(st.lists(calls, min_size=20, max_size=60))
def test_every_window_holds(history: list[tuple[int, Sequence[Budget], int, int, float]]) -> None:
    """In no window is more admitted than the limit, and what is refused would not fit into one.

    For the refusals, the window is longer by the bucket that its start cuts.
    """

    async def replay() -> None:
        log = Log()
        for duration, budgets, tokens, index, part in history:
            log.now += duration
            await log.reserve(budgets, tokens)
            log.settle(index, part)

    asyncio.run(replay())


@settings(deadline=None)
@given(histories, some_budgets, st.integers(0, 40))
def test_retry_after_is_exact_after_any_history(
    history: list[Step], budgets: Sequence[Budget], tokens: int
) -> None:
    """Debts and corrections included: waiting it out is enough, a microsecond less is not."""

    async def play() -> None:
        now = START

        async def advance(microseconds: int) -> None:
            nonlocal now
            now += microseconds

        player = Player(MemoryRateLimiter(clock=lambda: now * 1000), advance)
        await player.play(history)
        refusal = await player.reserve(budgets, tokens)
        if refusal is not None:
            assert refusal.retry_after is not None
            await advance(round(refusal.retry_after * 1_000_000) - 1)
            assert await player.reserve(budgets, tokens) is not None
            await advance(1)
            assert await player.reserve(budgets, tokens) is None

    asyncio.run(play())
