"""A sliding-window rate limiter for one process.

Guarantees what `protocol` says, for all tasks of one event loop: a decision has no
`await` in it, so nothing comes between the look and the booking. What others lack,
by their source of late 2026:

- `limits` 5.8: its moving window is exact but keeps one entry for each *token*; its
  sliding-window counter guesses how the last window was spread, and admits up to
  twice the limit in a window. Neither can reserve and settle, nor take two budgets at once.
- pyrate-limiter 4.5: the same log of one entry a token, or buckets (GCRA), which
  admit a full burst and then its refill: twice the limit in the first window.
- throttled-py 3.5: counters, buckets and GCRA; none holds the limit in every window,
  and none settles.
- token-throttle 14: reserves and refunds over several budgets, but by buckets that
  refill, so again up to twice the limit; a refund goes to now, not to its own second.
- LiteLLM's proxy: a fixed window that opens with the first call; what is admitted at its
  end and at the start of the next is twice the limit within one window.

Memory: at most 61 numbers for each budget used in the last window. Needs: the standard
library, `protocol`, `ledger` and `reservation`.
"""

import time
from collections.abc import Callable, Sequence

from .ledger import MICROSECONDS, Ledger
from .protocol import Budget, RateLimited, Reservation, Standing, costs_of
from .reservation import BookedReservation, Booking

NANOSECONDS = 1000
"""In a microsecond."""
SWEEP_EVERY = 1024
"""Calls between two sweeps of the ledgers that hold nothing any more."""


class MemoryRateLimiter:
    """The window in this process. `clock`: nanoseconds that never go backwards."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._ledgers: dict[tuple[str, float], Ledger] = {}
        self._until_sweep = SWEEP_EVERY

    @property
    def budgets(self) -> int:
        """How many budgets take memory now."""
        return len(self._ledgers)

    async def reserve(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1
    ) -> Reservation:
        """Admit a call under all the budgets, or raise RateLimited or CostAboveLimit."""
        costs = costs_of(budgets, tokens=tokens, requests=requests)
        now = self._now()
        ledgers = self._admitting(budgets, costs, now)
        return self._book(budgets, costs, ledgers, now)

    def check(self, budgets: Sequence[Budget], *, tokens: int = 1, requests: int = 1) -> None:
        """Raise RateLimited or CostAboveLimit if `reserve` would; reserves nothing."""
        self._admitting(budgets, costs_of(budgets, tokens=tokens, requests=requests), self._now())

    def _admitting(
        self, budgets: Sequence[Budget], costs: Sequence[int], now: int
    ) -> Sequence[Ledger]:
        """Return the ledgers of the budgets if all have enough left, or raise RateLimited."""
        self._sweep_at_times(now)
        ledgers = [self._ledger(budget, now) for budget in budgets]
        waits = [
            ledger.wait(cost, budget.limit, now)
            for ledger, budget, cost in zip(ledgers, budgets, costs, strict=True)
        ]
        if any(waits):
            longest = max(range(len(waits)), key=waits.__getitem__)
            raise RateLimited(
                budgets[longest],
                cost=costs[longest],
                retry_after=waits[longest] / MICROSECONDS,
                standings=_standings(budgets, ledgers, now),
            )
        return ledgers

    def record(self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1) -> Reservation:
        """Count a call that was admitted elsewhere, whether or not it fits here."""
        now = self._now()
        self._sweep_at_times(now)
        costs = [tokens if budget.unit == "tokens" else requests for budget in budgets]
        return self._book(budgets, costs, [self._ledger(budget, now) for budget in budgets], now)

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Lower what is left of a budget to `remaining`, for `reset` seconds; never raise it."""
        now = self._now()
        ledger = self._ledger(budget, now)
        excess = budget.limit - ledger.used - remaining
        duration = ledger.window if reset is None else round(reset * MICROSECONDS)
        if excess > 0 and duration > 0:
            ledger.hold(excess, duration, now)

    def used(self, budget: Budget, *, since: int) -> int:
        """Return what was admitted in the bucket of this time (of the clock) and later ones."""
        return self._ledger(budget, self._now()).used_since(since // NANOSECONDS)

    def _book(
        self, budgets: Sequence[Budget], costs: Sequence[int], ledgers: Sequence[Ledger], now: int
    ) -> Reservation:
        bookings = [
            Booking(budget, ledger.add(cost, now), cost)
            for ledger, budget, cost in zip(ledgers, budgets, costs, strict=True)
        ]
        return BookedReservation(bookings, _standings(budgets, ledgers, now), self._settle)

    def _settle(self, bookings: Sequence[Booking], used: Sequence[int]) -> None:
        now = self._now()
        for (budget, bucket, cost), actual in zip(bookings, used, strict=True):
            self._ledger(budget, now).settle(bucket, reserved=cost, actual=actual, now=now)

    def _now(self) -> int:
        return self._clock() // NANOSECONDS

    def _ledger(self, budget: Budget, now: int) -> Ledger:
        key = (budget.name, budget.window)
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger(round(budget.window * MICROSECONDS))
        ledger.expire(now)
        return ledger

    def _sweep_at_times(self, now: int) -> None:
        self._until_sweep -= 1
        if self._until_sweep > 0:
            return
        self._until_sweep = max(SWEEP_EVERY, len(self._ledgers))
        for ledger in self._ledgers.values():
            ledger.expire(now)
        self._ledgers = {key: ledger for key, ledger in self._ledgers.items() if ledger.used}


def _standings(
    budgets: Sequence[Budget], ledgers: Sequence[Ledger], now: int
) -> tuple[Standing, ...]:
    return tuple(
        Standing(budget, max(0, budget.limit - ledger.used), ledger.reset(now) / MICROSECONDS)
        for budget, ledger in zip(budgets, ledgers, strict=True)
    )
