"""Random histories of a limiter's life, and what came of them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from app.ratelimit.protocol import Budget, RateLimited, RateLimiter, Reservation

WINDOW = 60_000_000
BUCKET = WINDOW // 60
BUDGETS = (
    Budget("tier", "tokens", 100),
    Budget("tier", "requests", 7),
    Budget("client", "tokens", 40),
)

Step = tuple[Any, ...]

some_budgets = st.lists(st.sampled_from(BUDGETS), min_size=1, unique=True)
durations = st.one_of(
    st.integers(0, 2 * BUCKET),
    st.integers(0, 2 * WINDOW),
    st.integers(0, 61).map(lambda buckets: buckets * BUCKET),
)
reserve = st.tuples(st.just("reserve"), some_budgets, st.integers(0, 40))
advance = st.tuples(st.just("advance"), durations)
settle = st.tuples(st.just("settle"), st.integers(0, 9), st.none() | st.integers(0, 80))
cancel = st.tuples(st.just("cancel"), st.integers(0, 9))
correct = st.tuples(
    st.just("correct"),
    st.sampled_from(BUDGETS),
    st.integers(0, 40),
    st.none() | durations.map(lambda microseconds: microseconds / 1_000_000),
)
histories = st.lists(
    st.one_of(reserve, reserve, advance, settle, cancel, correct), min_size=20, max_size=60
)


class Player:
    """Plays histories on a limiter, and writes down what it says."""

    def __init__(self, limiter: RateLimiter, advance: Callable[[int], Awaitable[None]]) -> None:
        self.limiter = limiter
        self.advance = advance
        self.said: list[object] = []
        self._held: list[Reservation] = []

    async def play(self, history: Sequence[Step]) -> RateLimited | None:
        """Play it up to its end, or to a refusal that comes last; return that."""
        refusal = None
        for name, *arguments in history:
            refusal = await getattr(self, name)(*arguments)
        return refusal

    async def reserve(self, budgets: Sequence[Budget], tokens: int) -> RateLimited | None:
        """Reserve, hold what is admitted, return a refusal."""
        try:
            reservation = await self.limiter.reserve(budgets, tokens=tokens)
        except RateLimited as refusal:
            self.said.append((str(refusal), refusal.budget, refusal.retry_after))
            return refusal
        self._held.append(reservation)
        self.said.append(reservation.standings)
        return None

    async def settle(self, index: int, used: int | None) -> None:
        """Settle one of those held."""
        for reservation in self._held[index : index + 1]:
            reservation.settle(tokens=used)
        del self._held[index : index + 1]

    async def cancel(self, index: int) -> None:
        """Cancel one of those held."""
        for reservation in self._held[index : index + 1]:
            reservation.cancel()
        del self._held[index : index + 1]

    async def correct(self, budget: Budget, remaining: int, reset: float | None) -> None:
        """Correct a budget."""
        self.limiter.correct(budget, remaining=remaining, reset=reset)
