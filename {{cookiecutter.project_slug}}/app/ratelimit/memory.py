"""A sliding-window rate limiter for one process.

    limiter, budget = RateLimiter(), Budget("openai", "tokens", 90_000)
    reservation = await limiter.reserve([budget], tokens=estimate_tokens(request))
    reservation.settle(tokens=usage.total_tokens)

Guarantees what `base` says for all tasks of one event loop: a decision contains no `await`. Each
window is sixty buckets. A bucket counts until all of it is older than the window, so the sum is
never less than what any window holds, and at most one bucket of capacity is lost.
Memory: at most 61 numbers for each budget that is in use. Needs: `base`.
"""

import time
from collections.abc import Callable, Sequence

from .base import Booking, Budget, BudgetStatus, RateLimited, Reservation, costs_of

BUCKETS = 60
MICROSECONDS = 1_000_000
NANOSECONDS = 1000
"""In a microsecond."""
SWEEP_EVERY = 1024
"""Calls between two sweeps of the ledgers that hold nothing any more."""


class Ledger:
    """What was admitted in the last window, bucket by bucket.

    Times are in microseconds, on a clock that never goes backwards. Call `expire` before the rest.
    """

    __slots__ = ("_buckets", "used", "width", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.width = -(-window // BUCKETS)
        self.used = 0
        self._buckets: dict[int, int] = {}  # ascending: the first is the oldest

    def expire(self, now: int) -> None:
        """Forget the buckets that are wholly older than the window."""
        while self._buckets:
            oldest = next(iter(self._buckets))
            if self._leaves(oldest) > now:
                return
            self.used -= self._buckets.pop(oldest)

    def add(self, cost: int, now: int) -> int:
        """Count a cost from now on; return its bucket, for `settle`."""
        bucket = now // self.width
        self._put(bucket, cost)
        return bucket

    def settle(self, bucket: int, *, reserved: int, used: int, now: int) -> None:
        """Count what was used instead of what was reserved, in the reservation's own bucket.

        Where that bucket has left the window, usage above the estimate counts from now on.
        """
        if self._leaves(bucket) > now:
            self._put(bucket, used - reserved)
        elif used > reserved:
            self.add(used - reserved, now)

    def hold(self, cost: int, duration: int, now: int) -> None:
        """Count a cost for this long, to the next bucket's end; at most a window."""
        past = now + duration - self.window
        self._put(min(-(-past // self.width) - 1, now // self.width), cost)

    def wait(self, cost: int, limit: int, now: int) -> int:
        """Return how long it takes until a cost fits; a window, where it is above the limit."""
        excess = self.used + cost - limit
        if excess <= 0:
            return 0
        for bucket, used in self._buckets.items():
            excess -= used
            if excess <= 0:
                return self._leaves(bucket) - now
        return self.window

    def reset(self, now: int) -> int:
        """Return how long it takes until some of it comes back: 0 where none is used."""
        return self._leaves(next(iter(self._buckets))) - now if self._buckets else 0

    def used_since(self, start: int) -> int:
        """Return what counts in the bucket of this time and later ones."""
        first = start // self.width
        return sum(used for bucket, used in self._buckets.items() if bucket >= first)

    def _leaves(self, bucket: int) -> int:
        return (bucket + 1) * self.width + self.window

    def _put(self, bucket: int, cost: int) -> None:
        newest = next(reversed(self._buckets), bucket)
        self.used += cost
        self._buckets[bucket] = self._buckets.get(bucket, 0) + cost
        if not self._buckets[bucket]:
            del self._buckets[bucket]
        elif bucket < newest:
            self._buckets = dict(sorted(self._buckets.items()))


class RateLimiter:
    """The windows in this process. `clock` returns nanoseconds and never goes backwards."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._ledgers: dict[tuple[str, float], Ledger] = {}
        self._until_sweep = SWEEP_EVERY

    async def reserve(self, budgets: Sequence[Budget], *, tokens: int) -> Reservation:
        """Admit a call of this estimated cost under all the budgets; never wait for capacity.

        RateLimited: not now. CostAboveLimit: never.
        """
        return self._reserve(budgets, costs_of(budgets, tokens=tokens))

    def check(self, budgets: Sequence[Budget]) -> None:
        """Raise RateLimited if a budget is known to be used up; for use before a call queues."""
        self._require(budgets, [1] * len(budgets), self._now())

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Lower what is left of a budget to what the provider reports; never raise it.

        The difference counts for `reset` seconds, or for a window where that is unknown.
        """
        now = self._now()
        ledger = self._ledger(budget, now)
        excess = budget.limit - ledger.used - remaining
        if excess > 0:
            duration = budget.window if reset is None else reset
            ledger.hold(excess, round(duration * MICROSECONDS), now)

    def _reserve(self, budgets: Sequence[Budget], costs: Sequence[int]) -> Reservation:
        now = self._now()
        self._require(budgets, costs, now)
        bookings = self._book(budgets, costs, now)
        return Reservation(bookings, self._statuses(budgets, now), self._settle)

    def _require(self, budgets: Sequence[Budget], costs: Sequence[int], now: int) -> None:
        """Raise RateLimited if a cost does not fit."""
        self._sweep(now)
        waits = [
            self._ledger(budget, now).wait(cost, budget.limit, now) / MICROSECONDS
            for budget, cost in zip(budgets, costs, strict=True)
        ]
        if any(waits):
            raise RateLimited(self._statuses(budgets, now), costs, waits)

    def _book(self, budgets: Sequence[Budget], costs: Sequence[int], now: int) -> list[Booking]:
        return [
            Booking(budget, self._ledger(budget, now).add(cost, now), cost)
            for budget, cost in zip(budgets, costs, strict=True)
        ]

    def _settle(self, bookings: Sequence[Booking], used: Sequence[int]) -> None:
        now = self._now()
        for (budget, bucket, cost), actual in zip(bookings, used, strict=True):
            self._ledger(budget, now).settle(bucket, reserved=cost, used=actual, now=now)

    def _statuses(self, budgets: Sequence[Budget], now: int) -> tuple[BudgetStatus, ...]:
        ledgers = [self._ledger(budget, now) for budget in budgets]
        return tuple(
            BudgetStatus(b, max(0, b.limit - ledger.used), ledger.reset(now) / MICROSECONDS)
            for b, ledger in zip(budgets, ledgers, strict=True)
        )

    def _now(self) -> int:
        return self._clock() // NANOSECONDS

    def _ledger(self, budget: Budget, now: int) -> Ledger:
        key = (budget.name, budget.window)
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger(round(budget.window * MICROSECONDS))
        ledger.expire(now)
        return ledger

    def _sweep(self, now: int) -> None:
        """Forget idle budgets, once in a while."""
        self._until_sweep -= 1
        if self._until_sweep > 0:
            return
        self._until_sweep = max(SWEEP_EVERY, len(self._ledgers))
        for ledger in self._ledgers.values():
            ledger.expire(now)
        self._ledgers = {key: ledger for key, ledger in self._ledgers.items() if ledger.used}
