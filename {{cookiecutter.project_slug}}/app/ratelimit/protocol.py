"""What a rate limiter promises, and what it says when it refuses.

A provider's tier is "so many requests and so many tokens in 60 seconds". A call
is admitted by *reserving* its estimated cost under several budgets at once (the
provider's tier, the client's own), and *settled* with what it really used.

Every implementation guarantees:

- In no window of `Budget.window` seconds is more admitted than `Budget.limit`.
  A sixtieth of the window (one second of a minute) is the ledger's grain: it
  counts until all of it is older than the window, so capacity comes back after
  at most 61/60 of the window.
- All or nothing: a call refused for one budget uses up nothing of the others.
- `RateLimited.retry_after` is exact: a client that waits it out and is alone is
  admitted, one that comes earlier is refused.
- A settlement goes into the second of the reservation. Less than the estimate is
  given back there; more is a debt that later admissions pay, and if that second
  has left the window the debt is counted from now. Unknown usage gives nothing back.
- `settle` and `cancel` never wait, so nothing can cancel them; the first one
  counts and later ones do nothing. A reservation that nobody settles costs its
  estimate until its second leaves the window, and nothing after that.

Needs: `app.errors`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.errors import ServiceError

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Budget:
    """So many requests or tokens in any `window` seconds, shared by all who use this `key`.

    `key` says whose budget it is, as "openai" or "client:alice". It is stored, logged and sent in
    header fields: never put a secret into it.
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
        """Whose budget and of what, as "openai:tokens"."""
        return f"{self.key}:{self.unit}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a budget stood right after a decision: what the `RateLimit` header fields tell."""

    budget: Budget
    remaining: int
    """What is left of the limit; never negative, also where a debt is being paid."""
    reset: float
    """Seconds until more comes back, 0 where nothing is used."""


class Reservation(Protocol):
    """What was admitted, until it is settled or cancelled; the first of the two counts."""

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How each budget stood when this was admitted."""
        ...

    def settle(self, *, tokens: int | None) -> None:
        """Replace the estimate by the `tokens` really used; None, unknown, keeps the estimate."""
        ...

    def cancel(self) -> None:
        """Give everything back: the call was never made."""
        ...


class RateLimiter(Protocol):
    """Admits calls under budgets."""

    async def reserve(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1
    ) -> Reservation:
        """Admit a call of this estimated cost under all the budgets, or raise.

        RateLimited: not now. CostAboveLimit: never. Waits for no capacity.
        """
        ...

    def check(self, budgets: Sequence[Budget], *, tokens: int = 1, requests: int = 1) -> None:
        """Raise what `reserve` is already known to raise; reserves nothing, never waits.

        For the door: whoever is refused here has not queued in vain.
        """
        ...

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Lower what is left of a budget to what the provider says is `remaining`; never raise it.

        The difference counts as used for `reset` seconds, or a whole window where that is unknown.
        """
        ...


class RateLimitError(ServiceError):
    """A call was not admitted."""

    type = "rate_limit_error"


class RateLimited(RateLimitError):  # noqa: N818 -- a refusal, not a fault
    """A budget has too little left: the one that takes longest to have enough again."""

    type = "rate_limited"

    def __init__(
        self, budget: Budget, *, cost: int, retry_after: float, standings: tuple[Standing, ...]
    ) -> None:
        self.budget = budget
        self.cost = cost
        self.standings = standings
        """How each budget of the refused call stands."""
        self.remaining = next(s.remaining for s in standings if s.budget == budget)
        super().__init__(
            f"rate limit of {budget.name}: {cost} asked for, {self.remaining} left of "
            f"{budget.limit} per {budget.window:g} s; retry in {retry_after:.3f} s",
            retry_after=retry_after,
        )


class CostAboveLimit(RateLimitError):  # noqa: N818
    """One call costs more than the whole limit: no waiting will help."""

    type = "cost_above_limit"

    def __init__(self, budget: Budget, *, cost: int) -> None:
        self.budget = budget
        self.cost = cost
        super().__init__(
            f"{cost} {budget.unit} asked for at once, above the limit of {budget.name}: "
            f"{budget.limit} per {budget.window:g} s"
        )


class LimiterUnavailable(RateLimitError):  # noqa: N818
    """The server that keeps the window did not answer in time, or answered with an error."""

    type = "limiter_unavailable"


def costs_of(budgets: Sequence[Budget], *, tokens: int, requests: int) -> tuple[int, ...]:
    """Return what a call costs under each budget.

    CostAboveLimit: it can never be admitted. ValueError: a negative cost, or a budget twice.
    """
    if tokens < 0 or requests < 0:
        raise ValueError(f"a cost must not be negative: {requests} requests, {tokens} tokens")
    if len({budget.name for budget in budgets}) < len(budgets):
        raise ValueError(f"a budget occurs twice in {[budget.name for budget in budgets]}")
    costs = tuple(tokens if budget.unit == "tokens" else requests for budget in budgets)
    for budget, cost in zip(budgets, costs, strict=True):
        if cost > budget.limit:
            raise CostAboveLimit(budget, cost=cost)
    return costs
