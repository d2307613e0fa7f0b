"""Budgets of requests and tokens, and what a rate limiter guarantees about them.

A call *reserves* its estimated cost under several budgets and is *settled* with what it used.

- No window of `Budget.window` seconds holds more than `Budget.limit`. Capacity comes back after at
  most 61/60 of the window.
- All or nothing: a call that one budget refuses uses up nothing of the others.
- `RateLimited.retry_after` is exact: a call after it is admitted, one before it is refused.
- A settlement counts in the second of the reservation. Usage above the estimate keeps later calls
  out. An unsettled reservation costs its estimate.
Needs: `app.errors`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from app.errors import ServiceError

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Budget:
    """So many requests or tokens in any `window` seconds, for all calls with this `key`.

    `key` names the owner, as "openai" or "client:alice". It is stored, logged and sent in header
    fields: never put a secret into it.
    """

    key: str
    unit: Unit
    limit: int
    window: float = 60.0

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(f"the limit of {self.name} must not be negative, it is {self.limit}")
        if self.window <= 0:
            raise ValueError(f"the window of {self.name} must be positive, it is {self.window} s")

    @property
    def name(self) -> str:
        """The owner and the unit, as "openai:tokens"."""
        return f"{self.key}:{self.unit}"


class BudgetStatus(NamedTuple):
    """A budget right after a decision."""

    budget: Budget
    remaining: int
    """What is left of the limit; never negative."""
    reset: float
    """Seconds until more comes back, 0 where nothing is used."""


class Booking(NamedTuple):
    """A cost that counts in one bucket of a budget's window."""

    budget: Budget
    bucket: int
    cost: int


class Reservation:
    """The cost of an admitted call. The first `settle` or `cancel` counts, later ones do nothing.

    `statuses` are those of the budgets when the call was admitted. `close` replaces the costs by
    what was used; it must not wait, so that a cancellation cannot prevent it.
    """

    __slots__ = ("_bookings", "_close", "statuses")

    def __init__(
        self,
        bookings: Sequence[Booking],
        statuses: tuple[BudgetStatus, ...],
        close: Callable[[Sequence[Booking], Sequence[int]], None],
    ) -> None:
        self._bookings = bookings
        self._close: Callable[[Sequence[Booking], Sequence[int]], None] | None = close
        self.statuses = statuses

    def settle(self, *, tokens: int | None) -> None:
        """Replace the estimate by the `tokens` that were used; None keeps the estimate."""
        if tokens is not None and tokens < 0:
            raise ValueError(f"the tokens used must not be negative, they are {tokens}")
        self._finish(
            [
                booking.cost if tokens is None or booking.budget.unit == "requests" else tokens
                for booking in self._bookings
            ]
        )

    def cancel(self) -> None:
        """Give everything back: the call was never made."""
        self._finish([0] * len(self._bookings))

    def _finish(self, used: Sequence[int]) -> None:
        close, self._close = self._close, None
        if close is not None:
            close(self._bookings, used)


class RateLimited(ServiceError):  # noqa: N818 -- a refusal, not a fault
    """A budget has too little left; `budget` is the one that takes longest to have enough.

    `statuses`, `costs` and `waits` (in seconds, 0 where the cost fits) have an entry per budget.
    """

    type = "rate_limited"

    def __init__(
        self, statuses: Sequence[BudgetStatus], costs: Sequence[int], waits: Sequence[float]
    ) -> None:
        longest = max(range(len(waits)), key=waits.__getitem__)
        budget, remaining, _ = statuses[longest]
        self.budget = budget
        self.statuses = statuses
        super().__init__(
            f"rate limit of {budget.name}: {costs[longest]} asked for, {remaining} left of "
            f"{budget.limit} per {budget.window:g} s; retry in {waits[longest]:.3f} s",
            retry_after=waits[longest],
        )


class CostAboveLimit(ServiceError):  # noqa: N818
    """One call costs more than the whole limit: waiting does not help."""

    type = "cost_above_limit"


def costs_of(budgets: Sequence[Budget], *, tokens: int) -> list[int]:
    """Return what a call costs under each budget.

    CostAboveLimit: it can never be admitted. ValueError: a negative cost, or a budget twice.
    """
    if tokens < 0:
        raise ValueError(f"the tokens of a call must not be negative, they are {tokens}")
    names = [budget.name for budget in budgets]
    if len(set(names)) < len(names):
        raise ValueError(f"a budget occurs twice in {names}")
    costs = [tokens if budget.unit == "tokens" else 1 for budget in budgets]
    for budget, cost in zip(budgets, costs, strict=True):
        if cost > budget.limit:
            raise CostAboveLimit(
                f"{cost} {budget.unit} asked for at once, above the limit of {budget.name}: "
                f"{budget.limit} per {budget.window:g} s"
            )
    return costs
